"""Gives a loss weighting what it needs from the run before training starts."""

from typing import Any

from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS

from ..running import prepare_weightings


@HOOKS.register_module()
class EpochLengthHook(Hook):
    """Before training tells weightings that average over epochs (DWA, STCH, GradNorm) how many steps one takes.

    In a Runner of MMEngine the optimizer wrapper finds out by itself; this hook is for loops that look different.
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
        prepare_weightings(runner.optim_wrapper, runner)
