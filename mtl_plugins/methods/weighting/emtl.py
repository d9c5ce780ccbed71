"""A reading of equitable multi-task learning."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, to_sum

TINY = 1e-20


class EMTL(Weighting):
    r"""Makes the relative contributions of the tasks equal. **Unverified**: our reading of an abstract.

    The contribution of a task is its weighted loss over the norm of its raw gradient on the last shared layer,
    :math:`c_k = w_k L_k / d_k`. The positive weights with :math:`\sum_k w_k = K` and equal contributions are
    :math:`w_k \propto d_k / L_k`. Note that a task with a large gradient gets more weight.

    Source: Yuan and Zhang, "Equitable Multi-task Learning", arXiv 2306.09373. The paper adds a regulariser on the
    variance of the contributions; neither its objective nor a program could be consulted, so this class takes the
    point at which that variance is zero. Results with it are not results of the paper.

    Losses and norms below 1e-20 count as 1e-20. A task without any gradient there (norm 0) has no contribution to
    balance: its weight is 1, and the others' are those that they would have without it.

    Args:
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: From :meth:`weights`, if a loss is negative.
    """

    facts = MethodFacts(
        'Equitable multi-task learning, our reading',
        paper='Yuan and Zhang',
        arxiv='2306.09373',
        verified='unverified: a reading of the abstract',
    )
    accumulates_exactly = False
    needs_grad_norms = True

    def __init__(self, tasks: Sequence[str] | int | None = None) -> None:
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        self._norms: Tensor | None = None
        return {}

    def observe_grad_norms(self, norms: Tensor, losses: Tensor, present: Tensor) -> None:
        """Take the gradient norms of this batch."""
        values, rows = self._check('norms', norms, present)
        self._norms = torch.full((len(self.tasks),), float('nan'), dtype=torch.float64)
        self._norms[rows] = values

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        self._check_sign(losses, rows)
        if self._norms is None or bool(self._norms[rows].isnan().any()):
            raise RuntimeError('EMTL: call observe_grad_norms() with the norms of all present tasks before weights()')
        norms = self._norms[rows]
        weights = torch.ones_like(norms)
        touching = norms > 0
        if bool(touching.any()):
            weights[touching] = to_sum(norms[touching].clamp_min(TINY) / losses[touching].clamp_min(TINY))
        return weights

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        # The norms belong to one batch: the next one must bring its own.
        self._norms = None
