"""Dynamic task prioritization."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, check_choice, check_number, to_sum

KPIS = ('metric', 'loss')


class DTP(Weighting):
    r"""Gives more weight to difficult tasks, those whose key performance indicator (KPI) is low.

    :math:`w_k = -(1 - \bar\kappa_k)^{\gamma_k} \log \bar\kappa_k` with the average :math:`\bar\kappa \leftarrow \alpha
    \kappa + (1 - \alpha) \bar\kappa` of the KPI :math:`\kappa_k \in (0, 1]`. The weight goes to 0 as the task is
    mastered.

    * ``kpi='metric'``: the paper's way. :meth:`update_kpis` brings the KPIs, for example IoU or accuracy after each
      validation; for regression choose something like the share of pixels within a threshold. The weight of a task is
      1 until its first KPI.
    * ``kpi='loss'``: a proxy that needs no metric, known as multi-loss dynamic weighting. :math:`\bar\kappa_k` is
      :math:`\min(\bar L_k, \bar L_k') / \bar L_k'` with the moving average :math:`\bar L_k` of the loss (factor
      :math:`\alpha`) and the one before, :math:`\bar L_k'`. A task whose loss stands still has :math:`\kappa = 1`.

    Source: Guo, Haque, Huang, Yeung and Fei-Fei, "Dynamic Task Prioritization for Multitask Learning", ECCV 2018 (no
    number on arXiv). There is no program of the authors; the numbers for the defaults are ours. The paper also weighs
    the examples within a task by a focal loss, which is a matter of the losses and not done here.

    Args:
        kpi: ``'metric'`` or ``'loss'``.
        gamma: Focus :math:`\gamma`, one number or one per task name (1 for others).
        alpha: Share of the newest value in the averages, in (0, 1].
        limits: :math:`\bar\kappa` is kept within these two numbers, in (0, 1), so that no weight is infinite or zero.
        normalise: Scale the weights to add up to the number of tasks. None is no for ``'metric'`` and yes for
            ``'loss'``, where all weights are small because the loss changes little from one step to the next.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range or ``gamma`` names an unknown task.
    """

    facts = MethodFacts(
        'Dynamic task prioritization',
        paper='Guo et al., ECCV 2018',
        verified='formula only; there is no official program. The key uses the proxy by losses',
    )
    looks_at_losses = False

    def __init__(
        self,
        kpi: str = 'metric',
        gamma: float | Mapping[str, float] = 1.0,
        alpha: float = 0.3,
        limits: tuple[float, float] = (0.01, 0.99),
        normalise: bool | None = None,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        check_choice(self, 'kpi', kpi, KPIS)
        for value in gamma.values() if isinstance(gamma, Mapping) else [gamma]:
            check_number(self, 'gamma', value, 0)
        check_number(self, 'alpha', alpha, 0, 1, open_low=True)
        if len(limits) != 2 or not 0 < limits[0] < limits[1] < 1:
            raise ValueError(f'DTP: limits must be two numbers with 0 < low < high < 1, but got {limits!r}')
        self.kpi = kpi
        self.gamma = gamma
        self.alpha = alpha
        self.limits = tuple(limits)
        self.normalise = kpi == 'loss' if normalise is None else normalise
        self.scale = 'sum' if self.normalise else 'raw'
        self.needs_kpis = kpi == 'metric'
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        self._gammas = self._per_task('gamma', self.gamma, 1.0)
        unknown = torch.full((num_tasks,), float('nan'), dtype=torch.float64)
        return dict(kpi=unknown) if self.kpi == 'metric' else dict(kpi=unknown, mean_loss=unknown.clone())

    def update_kpis(self, kpis: Mapping[str, float]) -> None:
        """Take new KPIs; with ``kpi='loss'`` they are not used.

        Raises:
            RuntimeError: If the tasks have not been told.
            ValueError: If a value is not in [0, 1] or a task is not known.
        """
        if self.tasks is None:
            raise RuntimeError('DTP: call bind(tasks) before using it')
        self._check_names('kpis', kpis)
        if self.kpi == 'loss':
            return
        for task, value in kpis.items():
            if not 0 <= float(value) <= 1 or math.isnan(float(value)):
                raise ValueError(f"DTP: the KPI of '{task}' must lie in [0, 1], but got {value!r}")
        for task, value in kpis.items():
            row = self.tasks.index(task)
            self._state['kpi'][row] = self._average(self._state['kpi'][row], float(value))

    def _average(self, old: Tensor, new: Tensor | float) -> Tensor:
        return torch.where(old.isnan(), new, self.alpha * new + (1 - self.alpha) * old)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        kpi = self._state['kpi'][rows]
        limited = kpi.clamp(*self.limits)
        weights = -((1 - limited) ** self._gammas[rows]) * limited.log()
        if not self.normalise:
            return torch.where(kpi.isnan(), 1.0, weights)
        # Tasks without a KPI keep the weight 1, the others share the rest.
        known = ~kpi.isnan()
        result = torch.ones_like(weights)
        if bool(known.any()):
            result[known] = to_sum(weights[known])
        return result

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        if self.kpi == 'metric':
            return
        old = self._state['mean_loss'][rows]
        new = self._average(old, before)
        usable = old > 0
        ratio = torch.minimum(new, old) / torch.where(usable, old, 1.0)
        known = torch.where(usable, ratio.clamp(0, 1), 1.0)
        self._state['kpi'][rows] = torch.where(old.isnan(), self._state['kpi'][rows], known)
        self._state['mean_loss'][rows] = new
