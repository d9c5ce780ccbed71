"""Tells a loss weighting how good the tasks are by now."""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook

from mtl_plugins.errors import UserError, UserKeyError, refusing
from mtl_plugins.registry import HOOKS

from ..running import weightings_of


@HOOKS.register_module()
class TaskKPIHook(Hook):
    """After every validation hands key performance indicators to weightings that follow them (DTP).

    Args:
        kpis: Task -> name of a metric in percent in which more is better, for example
            ``dict(semseg='semseg/mIoU', depth='depth/delta1', normals='normals/11.25', sal='sal/maxF')``.

    Raises:
        ValueError: If ``kpis`` is empty.
    """

    # After the evaluator has its results, before checkpoints.
    priority = 'NORMAL'
    brings_kpis = True

    def __init__(self, kpis: Mapping[str, str]) -> None:
        if not kpis:
            raise UserError('TaskKPIHook.kpis must name a metric per task, for example dict(semseg="semseg/mIoU")')
        self.kpis = dict(kpis)

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Pass the metrics of this validation on.

        Raises:
            KeyError: If a metric is missing.
        """
        waiting = [weighting for weighting in weightings_of(runner.optim_wrapper) if weighting.needs_kpis]
        if not waiting:
            return
        missing = [name for name in self.kpis.values() if name not in (metrics or {})]
        if missing:
            raise UserKeyError(f'TaskKPIHook: no metric {missing}; there are {sorted(metrics or {})}')
        values = {task: float(metrics[name]) / 100 for task, name in self.kpis.items()}
        with refusing('TaskKPIHook'):
            for weighting in waiting:
                weighting.update_kpis({task: value for task, value in values.items() if math.isfinite(value)})
