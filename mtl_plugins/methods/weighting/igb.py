"""Improvable gap balancing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting
from .epoch_means import EpochMeans

TINY = 1e-20


class IGB(Weighting):
    r"""Pays more attention to the logarithms of losses that have gone down less since an early epoch.

    :math:`\sum_k a_k \log L_k` is minimised with :math:`a = K\,\mathrm{softmax}_k(L_k / L_k^{base})` as constants, so
    that the weights are :math:`a_k / L_k`. :math:`L^{base}` is the mean loss of epoch ``base_epoch``; until its end
    :math:`a = 1`.

    Source: Dai, Fei, Lu, "Improvable Gap Balancing for Multi-Task Learning", UAI 2023, arXiv 2307.15429, its first
    version (IGBv1); formulas and ``base_epoch`` from the authors' program. The second version learns :math:`a` by
    reinforcement learning, and is left out.

    A task that was absent in that epoch takes its first loss afterwards as base. Losses below 1e-20 count as 1e-20.

    Args:
        base_epoch: The epoch whose mean losses are the base, counted from 0; :meth:`set_epoch_length` has to tell the
            length of an epoch.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If ``base_epoch`` is negative; from :meth:`weights`, if a loss is negative.
    """

    facts = MethodFacts(
        'Improvable gap balancing, its first version',
        paper='Dai, Fei and Lu, UAI 2023',
        arxiv='2307.15429',
        verified="formula of the authors' program; no vectors",
        one_task='it minimises the logarithm of the loss, whose gradient is divided by the loss',
    )
    scale = 'raw'

    def __init__(self, base_epoch: int = 1, tasks: Sequence[str] | int | None = None) -> None:
        if not isinstance(base_epoch, int) or base_epoch < 0:
            raise ValueError(f'IGB: base_epoch must be an integer >= 0, but got {base_epoch!r}')
        self.base_epoch = base_epoch
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        unknown = torch.full((num_tasks,), float('nan'), dtype=torch.float64)
        return dict(base=unknown, epochs=0, **EpochMeans.start(num_tasks))

    def _base(self, losses: Tensor, rows: Tensor) -> Tensor:
        base = self._state['base'][rows]
        return torch.where(base.isnan(), losses, base).clamp_min(TINY)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        self._check_sign(losses, rows)
        losses = losses.clamp_min(TINY)
        if self._state['epochs'] <= self.base_epoch:
            return 1 / losses
        return len(losses) * torch.softmax(losses / self._base(losses, rows), dim=0) / losses

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        state = self._state
        if state['epochs'] > self.base_epoch:
            state['base'][rows] = self._base(before, rows)
            return
        means = EpochMeans.add(self, state, before, rows)
        if means is not None:
            state['epochs'] += 1
            if state['epochs'] > self.base_epoch:
                state['base'] = means
