"""Fast adaptive multitask optimization."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, check_number
from .vector_optimizer import VectorOptimizer


class FAMO(Weighting):
    r"""Lowers all losses at the same relative rate, without gradients per task.

    With the logits :math:`\xi`, :math:`z = \mathrm{softmax}(\xi)` and :math:`D_k = L_k - L_k^* + 10^{-8}` the weights
    are :math:`w_k = (z_k / D_k) / \sum_j (z_j / D_j)`, which add up to 1. After the step the losses are measured again
    on the same batch, and :math:`\xi` goes a step of Adam along :math:`J^T \delta` with
    :math:`\delta_k = \log D_k^{before} - \log D_k^{after}` and the Jacobian :math:`J` of the softmax, with the L2
    factor :math:`\gamma`: a task that has just gained more than the others gets less weight.

    Source: Liu et al., "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, arXiv 2306.03792.

    The default of :math:`\gamma` is that of the authors' ``famo.py``; their experiments also have 1e-5, LibMTL and
    TorchJD 1e-3. The authors clip the gradient of the shared parameters to the norm 1, LibMTL and TorchJD do not; to
    clip, give the optimizer wrapper ``clip_grad=dict(max_norm=1.0)``, which acts on all stepped parameters.

    Args:
        gamma: Weight decay of the logits.
        lr: Learning rate of the logits.
        lower_bounds: Smallest possible loss :math:`L^*`, a number for all tasks or one per task name (0 for others).
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range; from :meth:`weights`, if a loss is below its lower bound.
    """

    facts = MethodFacts(
        'Fast adaptive multitask optimization',
        paper='Liu et al., NeurIPS 2023',
        arxiv='2306.03792',
        verified="vectors of the authors' program, TorchJD, LibMTL",
    )
    needs_after_step = True
    scale = 'mean'

    def __init__(
        self,
        gamma: float = 0.01,
        lr: float = 0.025,
        lower_bounds: float | Mapping[str, float] = 0.0,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        check_number(self, 'gamma', gamma, 0)
        self.gamma = gamma
        self.lr = lr
        self.lower_bounds = lower_bounds
        self._optimizer = VectorOptimizer(self, 'adam', lr, weight_decay=gamma)
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        self._bounds = self._per_task('lower_bounds', self.lower_bounds, 0.0)
        return dict(logits=torch.zeros(num_tasks, dtype=torch.float64), **self._optimizer.start(num_tasks))

    def _log_distance(self, losses: Tensor, rows: Tensor) -> Tensor:
        return ((losses - self._bounds[rows]).clamp_min(0) + 1e-8).log()

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        self._check_sign(losses - self._bounds[rows], rows)
        # softmax(xi - log D) is (z / D) / sum(z / D) without the division that could overflow.
        return torch.softmax(self._state['logits'][rows] - self._log_distance(losses, rows), dim=0)

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        gain = self._log_distance(before, rows) - self._log_distance(after, rows)
        logits = self._state['logits'][rows]
        share = torch.softmax(logits, dim=0)
        grad = share * (gain - (share * gain).sum())
        self._state['logits'][rows] = self._optimizer.step(logits, grad, rows, self._state)
