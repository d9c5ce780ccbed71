"""Says what a resume by MMEngine alone, without ``SafeCheckpointHook``, brings back against the config."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from .optimizer_settings import differences, settings_in_state
from .schedules import FOLLOWING, schedule_settings
from .schedules import differences as schedule_differences

_APPLIED_BY = (
    "With default_hooks.checkpoint.type='mtl_plugins.SafeCheckpointHook' the schedules of the config apply, and what "
    'cannot be applied is refused'
)


def describe_plan(runner: Any) -> dict[str, Any]:
    """The length of a run and what its schedulers are built with, as plain data; empty without a Runner."""
    if runner is None:
        return {}
    schedules = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    built = [schedule for schedule in schedules if isinstance(schedule, _ParamScheduler)]
    settings = [{k: v for k, v in entry.items() if k not in FOLLOWING} for entry in schedule_settings(built)]
    return dict(max_iters=int(runner.max_iters), schedules=settings)


def warn_of_settings(state: Mapping[str, Any], wrapper: Any) -> None:
    """Name the settings of a wrapper that a state is about to replace."""
    changed = differences(settings_in_state(state), wrapper)
    if changed:
        _warn(
            f'resumed with settings of the checkpoint in place of those of the config: {"; ".join(changed)}. To apply '
            'the new ones, start a new run from the weights: load_from=CHECKPOINT without resume.'
        )


def warn_of_plan(state: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say that a run has another plan (:func:`describe_plan`) than the one it continues, whose schedules it gets."""
    saved = state['mtl']
    if not any(f'initial_{name}' in group for group in state['param_groups'] for name in group):
        return  # nothing was scheduled
    changed = schedule_differences(saved.get('schedules') or now.get('schedules', []), now.get('schedules', []))
    if saved.get('max_iters') and saved['max_iters'] != now.get('max_iters', saved['max_iters']):
        changed.insert(0, f'max_iters was {saved["max_iters"]} and is {now["max_iters"]} now')
    if changed:
        _warn(
            f'{"; ".join(changed)}; but the schedules were resumed with all settings of the checkpoint, so that those '
            'of the config have no effect.'
        )


def _warn(text: str) -> None:
    print_log(f'{text} {_APPLIED_BY}.', 'current', logging.WARNING)
