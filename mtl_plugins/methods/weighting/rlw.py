"""Random loss weighting."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting


class RLW(Weighting):
    r"""Draws new weights for every step: :math:`w = \mathrm{softmax}(z)`, :math:`z_k \sim N(0, 1)`.

    Source: Lin et al., "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning",
    TMLR 2022, arXiv 2111.10603. The weights add up to 1, as in LibMTL and TorchJD.

    Unlike there, the draws come from the generator of :meth:`begin_step`, once per step: the ranks of a distributed
    run agree, micro-batches of one step share their weights, and a resumed run goes on as if it had not stopped. They
    are dealt out in the alphabetical order of the task names, so that the order in which the tasks are listed does not
    matter.

    Args:
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.
    """

    facts = MethodFacts(
        'Random loss weighting', paper='Lin et al., TMLR 2022', arxiv='2111.10603', verified='definition'
    )
    scale = 'mean'
    looks_at_losses = False

    def __init__(self, tasks: Sequence[str] | int | None = None) -> None:
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        return dict(logits=torch.full((num_tasks,), float('nan'), dtype=torch.float64))

    def begin_step(self, generator: torch.Generator) -> None:
        """Draw the weights of this step."""
        if self.tasks is None:
            raise RuntimeError('RLW: call bind(tasks) before using it')
        if not isinstance(generator, torch.Generator):
            raise TypeError(f'RLW: begin_step() needs a torch.Generator, but got {generator!r}')
        order = sorted(range(len(self.tasks)), key=lambda row: self.tasks[row])
        self._state['logits'][order] = torch.randn(len(order), dtype=torch.float64, generator=generator)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        logits = self._state['logits'][rows]
        if bool(logits.isnan().any()):
            raise RuntimeError('RLW: call begin_step(generator) before weights(), once per step')
        return torch.softmax(logits, dim=0)
