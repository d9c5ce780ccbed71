"""Tells a loss weighting how long an epoch is."""

from __future__ import annotations

import math
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class EpochLengthHook(Hook):
    """Before training tells weightings that average over epochs (DWA, STCH, GradNorm) how many steps one takes.

    Iteration-based loops know no epochs; one is ceil(images / (batch size * processes)) batches, divided by
    ``accumulative_counts``.
    """

    priority = 'NORMAL'

    def before_train(self, runner: Any) -> None:
        """Pass the number on."""
        weighting = getattr(runner.optim_wrapper, 'weighting', None)
        if weighting is None:
            return
        loader = runner.train_dataloader
        batches = math.ceil(len(loader.dataset) / ((loader.batch_size or 1) * get_world_size()))
        weighting.set_epoch_length(math.ceil(batches / runner.optim_wrapper._accumulative_counts))
