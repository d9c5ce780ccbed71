"""Says what a resume by MMEngine alone, without ``SafeCheckpointHook``, brings back against the config."""

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from mtl_plugins.errors import UserError

from .optimizer_settings import differences, impossible, method_differences, settings_in_state
from .schedules import FOLLOWING, schedule_settings
from .schedules import differences as schedule_differences

_APPLIED_BY = (
    "With default_hooks.checkpoint.type='mtl_plugins.SafeCheckpointHook' the schedules of the config apply, and what "
    'cannot be applied is refused'
)


def describe_plan(runner: Any) -> dict[str, Any]:
    """The length of a run and what its schedulers go by, as plain data; empty without a Runner."""
    if runner is None:
        return {}
    schedules = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    built = [schedule for schedule in schedules if isinstance(schedule, _ParamScheduler)]
    settings = [{k: v for k, v in entry.items() if k not in FOLLOWING} for entry in schedule_settings(built)]
    return dict(max_iters=int(runner.max_iters), schedules=settings)


def warn_of_settings(state: Mapping[str, Any], wrapper: Any) -> None:
    """Name the settings of a wrapper that a state is about to replace.

    Args:
        state: Saved state of a wrapper, of ours or of MMEngine.
        wrapper: The wrapper of this run.

    Raises:
        UserError: If the wrapper could not go on with that state.
    """
    wrong = impossible(state, wrapper)
    if wrong:
        raise UserError(
            f'the checkpoint cannot be resumed: {"; ".join(wrong)}. Go on with the settings it was trained with, or '
            'start a new run from the weights: load_from=CHECKPOINT without resume'
        )
    changed = differences(settings_in_state(state), wrapper)
    if changed:
        _warn(
            f'resumed with settings of the checkpoint in place of those of the config: {"; ".join(changed)}. To apply '
            'the new ones, start a new run from the weights: load_from=CHECKPOINT without resume.'
        )
    changed = method_differences(settings_in_state(state), wrapper)
    if changed:
        _warn(
            f'resumed with other settings of the method: {"; ".join(changed)}. Those of the config apply from here on, '
            'to what the method remembers of the former ones.'
        )
    if 'mtl' not in state and wrapper.method_name != 'gd':
        text = f"resumed from ordinary training, without a multi-task method; '{wrapper.method_name}' begins here anew."
        print_log(text, 'current', logging.WARNING)


def warn_of_plan(state: Mapping[str, Any], configured: Mapping[str, Any], resumed: Mapping[str, Any]) -> None:
    """Say that a run goes by other schedules than its config says, or is of another length than the one it continues.

    Args:
        state: State of the wrapper that was loaded.
        configured: :func:`describe_plan` before anything was loaded.
        resumed: The same afterwards.
    """
    changed = schedule_differences(resumed.get('schedules', []), configured.get('schedules', []))
    scheduled = any(f'initial_{name}' in group for group in state['param_groups'] for name in group)
    before, now = (state.get('mtl') or {}).get('max_iters'), configured.get('max_iters')
    if scheduled and None not in (before, now) and before != now:
        changed.insert(0, f'max_iters was {before} and is {now} now')
    if changed:
        _warn(
            f'{"; ".join(changed)}; but the schedules were resumed with all settings of the checkpoint, so that those '
            'of the config have no effect.'
        )


def _warn(text: str) -> None:
    print_log(f'{text} {_APPLIED_BY}.', 'current', logging.WARNING)
