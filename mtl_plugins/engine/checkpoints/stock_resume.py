"""Says what a resume by MMEngine alone, without ``SafeCheckpointHook``, brings back against the config."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log

from .optimizer_settings import differences, settings_in_state

_APPLIED_BY = (
    "With default_hooks.checkpoint.type='mtl_plugins.SafeCheckpointHook' the schedules of the config apply, and what "
    'cannot be applied is refused'
)


def warn_of_settings(state: Mapping[str, Any], wrapper: Any) -> int | None:
    """Name the settings of a wrapper that a state is about to replace.

    Returns:
        int | None: ``max_iters`` of the run that saved the state, if it scheduled anything.
    """
    changed = differences(settings_in_state(state), wrapper)
    if changed:
        _warn(
            f'resumed with settings of the checkpoint in place of those of the config: {"; ".join(changed)}. To apply '
            'the new ones, start a new run from the weights: load_from=CHECKPOINT without resume.'
        )
    scheduled = any(f'initial_{name}' in group for group in state['param_groups'] for name in group)
    return state['mtl'].get('max_iters') if scheduled else None


def warn_of_length(saved: int | None, now: int) -> None:
    """Say that a run is longer or shorter than the one that it continues, whose schedules it has."""
    if saved not in (None, now):
        _warn(
            f'max_iters was {saved} and is {now} now, but the schedules were resumed with all settings of the '
            'checkpoint, so that those of the config have no effect.'
        )


def _warn(text: str) -> None:
    print_log(f'{text} {_APPLIED_BY}.', 'current', logging.WARNING)
