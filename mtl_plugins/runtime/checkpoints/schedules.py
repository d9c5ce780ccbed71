"""Schedules on resume: those of the present config, taken to the step at which training goes on.

MMEngine restores a scheduler with everything that it was built with, so that another ``end`` or ``T_max`` in the config
would have no effect. Here, where the two differ, copies of the new schedulers are stepped as often as the saved ones
were, and what they arrive at takes the place of the saved state before MMEngine loads it.
"""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

MOVING = {'optimizer', 'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}
"""What changes with the steps of a scheduler, or is the optimizer's."""
FOLLOWING = {'best', 'num_bad_epochs', 'cooldown_counter'}
"""What a scheduler knows that follows the validation."""
_OTHER = 'another schedule'


def schedule_settings(schedules: Sequence[Any]) -> list[dict[str, Any]]:
    """What newly built schedulers were built with, as plain data."""
    return [dict(type=type(schedule).__name__, **_settings(vars(schedule))) for schedule in schedules]


def settings_in_states(states: Sequence[Mapping[str, Any]], schedules: Sequence[Any]) -> list[dict[str, Any]]:
    """The same of saved schedulers, as far as their states tell and ``schedules`` of this run explain them."""
    found = []
    for state, schedule in zip(states, schedules):
        (now,) = schedule_settings([schedule])
        if _names(state) != _names(vars(schedule)):
            found.append(dict(type=_OTHER))
        else:
            built_with = {'_schedule_phases', *_arguments(type(schedule))} - MOVING
            found.append({**now, **{name: _plain(state[name]) for name in built_with if name in state}})
    return found + [dict(type=_OTHER)] * (len(states) - len(schedules))


def differences(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """Differences between two lists of settings, in words."""
    if [entry['type'] for entry in before] != [entry['type'] for entry in now]:
        return [f'param_scheduler: {_types(before)} -> {_types(now)}']
    words = []
    for number, (old, new) in enumerate(zip(before, now)):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        changes = ', '.join(f'{name} {old.get(name)} -> {new.get(name)}' for name in names if not name.startswith('_'))
        if names:
            words.append(f'param_scheduler.{number} ({new["type"]}): {changes or "other phases"}')
    return words


def fast_forward(
    schedules: Sequence[Any], groups: Sequence[Mapping[str, Any]], iterations: int, epochs: int, epoch_length: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Step copies of newly built schedulers, beside the optimizer.

    Args:
        schedules: The schedulers of one optimizer.
        groups: Its parameter groups.
        iterations: How often those that count iterations are stepped.
        epochs: How often those that count epochs are stepped.
        epoch_length: Iterations in an epoch.

    Returns:
        States of the schedulers, and the groups as they leave them.
    """
    target = _Optimizer([{key: value for key, value in group.items() if key != 'params'} for group in groups])
    copies = [copy.deepcopy(schedule, {id(schedule.optimizer): target}) for schedule in schedules]
    by_iteration = [schedule for schedule in copies if not schedule.by_epoch]
    by_epoch = [schedule for schedule in copies if schedule.by_epoch]
    passed = 0
    for iteration in range(1, iterations + 1):
        for schedule in by_iteration:
            schedule.step()
        if passed < epochs and iteration == (passed + 1) * epoch_length:
            passed += 1
            for schedule in by_epoch:
                schedule.step()
    for _ in range(passed, epochs):
        for schedule in by_epoch:
            schedule.step()
    return [schedule.state_dict() for schedule in copies], target.param_groups


def steps_taken(states: Sequence[Mapping[str, Any]], by_epoch: bool) -> int | None:
    """How often the saved schedulers of one kind were stepped; None if there is none."""
    counts = [int(state['_global_step']) for state in states if state.get('by_epoch') is by_epoch]
    return max(counts, default=None)


def follows_validation(schedule: Any) -> bool:
    """Whether the steps of a scheduler depend on results, so that they cannot be taken again."""
    return bool(getattr(schedule, 'need_val_args', False))


class _Optimizer:
    """As much of an optimizer as a scheduler needs."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.param_groups = groups
        self._global_step = 0

    def step(self) -> None: ...

    step._with_counter = True  # type: ignore[attr-defined]


def _settings(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in attributes.items() if name not in MOVING}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, '__qualname__', None) or type(value).__qualname__


def _names(attributes: Mapping[str, Any]) -> set[str]:
    return {name for name, value in attributes.items() if name != 'optimizer' and not callable(value)}


def _arguments(kind: type) -> set[str]:
    return {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters}


def _types(settings: Sequence[Mapping[str, Any]]) -> str:
    return ', '.join(str(entry['type']) for entry in settings) or 'none'
