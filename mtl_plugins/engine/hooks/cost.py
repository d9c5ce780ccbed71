"""Says before training what a batch costs."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS

from ..optim_wrappers import SelectiveTaskGroupOptimWrapper, StepOptimWrapper


@HOOKS.register_module()
class CostHook(Hook):
    """Logs forwards, backwards and the expected cost per batch in units of ordinary training (GD).

    A backward pass is counted as two forward passes. While training, ``num_groups``, ``forwards`` and ``backwards``
    in the log follow the actual batches.
    """

    priority = 'LOW'

    def before_train(self, runner: Any) -> None:
        """Write the line."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, StepOptimWrapper):
            runner.logger.info(cost_line(wrapper))


def cost_line(wrapper: StepOptimWrapper) -> str:
    """One sentence on what a batch costs now, and what may change it."""
    cost = wrapper.cost_per_batch()
    tasks = wrapper.task_names
    probes = f' and {float(cost.probes):.2g} forward without graph' if cost.probes else ''
    line = (
        f"method '{wrapper.method_name}' on {len(tasks) if tasks else '?'} tasks: {cost.forwards} forward, "
        f'{cost.backwards} backward{probes} per batch, about {cost.relative:.2g} x GD'
    )
    if isinstance(wrapper, SelectiveTaskGroupOptimWrapper) and wrapper.grouper.follows_affinity:
        turns = f', {wrapper.groups_per_batch} of them per batch' if wrapper.groups_per_batch else ''
        since = f'M follows the affinity after {wrapper.warmup_iters} batches'
        line += f' (M = {len(wrapper.groups)} groups now{turns}; {since})'
    if wrapper._accumulative_counts > 1:
        line += f'; per micro-batch, of {wrapper._accumulative_counts}, plus one forward without graph per measurement'
    return line
