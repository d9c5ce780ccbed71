"""Smooth Tchebycheff scalarisation."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, check_choice, check_number
from .epoch_means import EpochMeans

FORMS = ('log', 'linear')
TINY = 1e-20


class STCH(Weighting):
    r"""Minimises a smooth maximum of the losses, so that the worst task counts most.

    * ``form='linear'``, as in the paper: :math:`K \mu \log \sum_k e^{p_k (L_k - z_k) / \mu}` with the preferences
      :math:`p` (sum 1) and the reference point :math:`z`. The weights are :math:`K p_k\,\mathrm{softmax}_k(p (L - z) /
      \mu)`; with equal preferences they add up to 1. TorchJD leaves out the factor K.
    * ``form='log'``, as in the authors' experiments on multi-task learning (LibMTL): the same of
      :math:`\log(L_k / n_k)`, which is free of the scales of the losses. :math:`n_k` (nadir) is the mean loss of the
      last epoch of the warm-up. The weights are :math:`K p_k'\,\mathrm{softmax}_k(p' \log(L / n) / \mu) / L_k` with
      :math:`p' = K p`; in the warm-up :math:`\sum_k \log L_k` is minimised, so that they are :math:`1 / L_k`.

    The smaller :math:`\mu`, the closer to the plain maximum.

    Source: Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", ICML 2024, arXiv
    2402.19078.

    A task that was never present in the warm-up has the first loss after it as nadir. Losses below 1e-20 count as
    1e-20 in the logarithm.

    Args:
        mu: :math:`\mu`; None is 1 for ``'log'`` and 0.1 for ``'linear'``.
        form: ``'log'`` or ``'linear'``.
        warmup: Epochs of the warm-up of ``'log'``; :meth:`set_epoch_length` has to tell their length.
        preferences: One positive number per task name (1 for others), in any scale; None for equal ones. Those of the
            present tasks are scaled to the sum 1.
        reference: Reference point of ``'linear'``, a number for all tasks or one per task name (0 for others).
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range or names an unknown task; from :meth:`weights`, if a loss is negative
            and the form ``'log'``.
    """

    facts = MethodFacts(
        'Smooth Tchebycheff scalarisation',
        paper='Lin et al., ICML 2024',
        arxiv='2402.19078',
        verified='linear form: vectors of TorchJD; log form: autograd only',
        one_task='it minimises the logarithm of the loss, whose gradient is divided by the loss',
    )

    def __init__(
        self,
        mu: float | None = None,
        form: str = 'log',
        warmup: int = 4,
        preferences: Mapping[str, float] | None = None,
        reference: float | Mapping[str, float] = 0.0,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        check_choice(self, 'form', form, FORMS)
        self.mu = (1.0 if form == 'log' else 0.1) if mu is None else mu
        check_number(self, 'mu', self.mu, 0, open_low=True)
        if not isinstance(warmup, int) or warmup < 1:
            raise ValueError(f'STCH: warmup must be an integer >= 1, but got {warmup!r}')
        for value in (preferences or {}).values():
            check_number(self, 'preferences', value, 0, open_low=True)
        self.form = form
        self.warmup = warmup
        self.preferences = preferences
        self.reference = reference
        self.scale = 'raw' if form == 'log' else 'mean'
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        self._preferences = self._per_task('preferences', self.preferences or {}, 1.0)
        self._reference = self._per_task('reference', self.reference, 0.0)
        if self.form == 'linear':
            return {}
        nadir = torch.full((num_tasks,), float('nan'), dtype=torch.float64)
        return dict(nadir=nadir, epochs=0, **EpochMeans.start(num_tasks))

    def _nadir(self, losses: Tensor, rows: Tensor) -> Tensor:
        nadir = self._state['nadir'][rows]
        return torch.where(nadir.isnan(), losses, nadir).clamp_min(TINY)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        preferences = self._preferences[rows] / self._preferences[rows].sum()
        if self.form == 'linear':
            share = torch.softmax(preferences * (losses - self._reference[rows]) / self.mu, dim=0)
            return len(losses) * preferences * share
        self._check_sign(losses, rows)
        losses = losses.clamp_min(TINY)
        if self._state['epochs'] < self.warmup:
            return 1 / losses
        preferences = len(losses) * preferences
        share = torch.softmax(preferences * (losses / self._nadir(losses, rows)).log() / self.mu, dim=0)
        return len(losses) * preferences * share / losses

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        if self.form == 'linear':
            return
        state = self._state
        if state['epochs'] >= self.warmup:
            state['nadir'][rows] = self._nadir(before, rows)
            return
        means = EpochMeans.add(self, state, before, rows)
        if means is not None:
            state['nadir'] = torch.where(means.isnan(), state['nadir'], means)
            state['epochs'] += 1
