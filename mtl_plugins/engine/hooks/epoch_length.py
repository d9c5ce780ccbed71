"""Gives a loss weighting what it needs from the run before training starts."""

from __future__ import annotations

import math
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from mtl_plugins.errors import UserError
from mtl_plugins.registry import HOOKS

from .task_kpi import TaskKPIHook


@HOOKS.register_module()
class EpochLengthHook(Hook):
    """Before training tells weightings that average over epochs (DWA, STCH, GradNorm) how many steps one takes.

    Iteration-based loops know no epochs; one is ceil(images / (batch size * processes)) batches, divided by
    ``accumulative_counts``. A weighting that waits for metrics (DTP with ``kpi='metric'``) is refused if no
    :class:`TaskKPIHook` brings them: it would be equal weights for the whole run.
    """

    priority = 'NORMAL'

    def before_train(self, runner: Any) -> None:
        """Pass the number on.

        Raises:
            ValueError: If the weighting waits for metrics that nobody brings.
        """
        weighting = getattr(runner.optim_wrapper, 'weighting', None)
        if weighting is None:
            return
        if getattr(weighting, 'needs_kpis', False) and not any(isinstance(h, TaskKPIHook) for h in runner.hooks):
            raise UserError(
                f"{type(weighting).__name__} with kpi='metric' follows metrics, but nobody brings them: add "
                "dict(type='mtl_plugins.TaskKPIHook', kpis=dict(<task>='<task>/<metric in percent>', ...)) to "
                "custom_hooks, or use weighting.kpi='loss'"
            )
        loader = runner.train_dataloader
        batches = math.ceil(len(loader.dataset) / ((loader.batch_size or 1) * get_world_size()))
        weighting.set_epoch_length(math.ceil(batches / runner.optim_wrapper._accumulative_counts))
