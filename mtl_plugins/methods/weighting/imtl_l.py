"""The loss part of impartial multi-task learning."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting
from .vector_optimizer import VectorOptimizer

LIMIT = 40.0


class IMTLL(Weighting):
    r"""Learns a scale per task that brings all weighted losses to the same size.

    With the learned :math:`s_k` the sum :math:`\sum_k e^{s_k} L_k - s_k` is minimised over the model and :math:`s`; the
    weight is :math:`e^{s_k}`, at rest :math:`1 / L_k`.

    Source: Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021 (no number on arXiv). The gradient part is
    IMTL-G; both together are IMTL.

    The public programs leave :math:`s` to the model's optimizer. Here it has its own, and is kept within -40 and 40:
    without the limit a loss of exactly zero would drive its weight to infinity.

    Args:
        lr: Learning rate of :math:`s`.
        optimizer: ``'adam'`` or ``'sgd'``.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range.
    """

    facts = MethodFacts(
        'Impartial learning, the loss part',
        paper='Liu et al., ICLR 2021',
        verified='vectors of TorchJD',
        one_task='its learned factor scales the one loss as it scales any other',
    )
    scale = 'raw'
    looks_at_losses = False

    def __init__(self, lr: float = 0.025, optimizer: str = 'adam', tasks: Sequence[str] | int | None = None) -> None:
        self.lr = lr
        self.optimizer = optimizer
        self._optimizer = VectorOptimizer(self, optimizer, lr)
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        return dict(log_scale=torch.zeros(num_tasks, dtype=torch.float64), **self._optimizer.start(num_tasks))

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        return self._state['log_scale'][rows].exp()

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        grad = self._weights(before, rows) * before - 1
        value = self._optimizer.step(self._state['log_scale'][rows], grad, rows, self._state)
        self._state['log_scale'][rows] = value.clamp(-LIMIT, LIMIT)
