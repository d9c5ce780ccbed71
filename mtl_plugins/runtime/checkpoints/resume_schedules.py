"""Puts the schedules of the present config in the place of the saved ones when a run is resumed."""

from collections.abc import Mapping, Sequence
from typing import Any

from .resume_guard import ResumeMismatchError, optimizers_of
from .schedules import (
    FOLLOWING,
    MOVING,
    differences,
    fast_forward,
    follows_validation,
    schedule_settings,
    settings_in_states,
    steps_taken,
)

LENGTHS = ('max_epochs', 'max_iters')


def describe_schedules(runner: Any) -> dict[str, list[dict[str, Any]]]:
    """What the schedulers were built with: plain data by name of their optimizer, ``''`` where there is one alone."""
    return {name: schedule_settings(_of(runner.param_schedulers, name) or []) for name in optimizers_of(runner)}


def describe_length(runner: Any) -> dict[str, int]:
    """How long the run is."""
    return {name: int(getattr(runner, name)) for name in LENGTHS}


def apply_length_and_schedules(runner: Any, checkpoint: dict[str, Any], saved: Mapping[str, Any]) -> None:
    """Let the length and the schedules of this run apply where they differ, and say so in one line.

    Args:
        runner: A Runner whose parts are built, with nothing loaded yet.
        checkpoint: What was loaded; changed in place.
        saved: What the run that saved it was built with, empty if it did not say.

    Raises:
        ResumeMismatchError: If the rate of the new schedules depends on validations of the past.
    """
    length = length_changes(runner, checkpoint, saved)
    schedules = apply_schedules(runner, checkpoint, saved.get('schedules'))
    if 'mtl' in checkpoint['optimizer']:  # the wrapper need not warn of what is applied here
        checkpoint['optimizer']['mtl'].update(describe_length(runner))
    if length or schedules:
        over = checkpoint['meta']['iter'] >= describe_length(runner)['max_iters']
        end = ['nothing is left to train'] if over else []
        words = '; '.join([*length, schedules or 'the schedules are as before', *end])
        runner.logger.warning(f'Resuming at iteration {checkpoint["meta"]["iter"]}: {words}.')


def apply_schedules(runner: Any, checkpoint: dict[str, Any], saved: Mapping[str, Any] | None) -> str | None:
    """Let ``checkpoint``, which is about to be loaded, hold the schedules of this run at the present step.

    The rates that follow from them are put into the saved parameter groups. Where nothing differs, nothing is changed.

    Args:
        runner: A Runner whose schedulers are built, with nothing loaded yet.
        checkpoint: What was loaded; changed in place.
        saved: :func:`describe_schedules` of the run that saved it; None if it did not say.

    Returns:
        str | None: What differed and which rate follows, in words.

    Raises:
        ResumeMismatchError: If the rate of the new schedules depends on validations of the past.
    """
    words, states, rates = [], {}, []
    for name in optimizers_of(runner):
        state = checkpoint['optimizer'][name] if name else checkpoint['optimizer']
        before = state['param_groups'][0].get('lr')
        changed, states[name] = _apply(runner, checkpoint, name, state, (saved or {}).get(name))
        words += changed
        rates.append((before, state['param_groups'][0].get('lr')))
    if runner.param_schedulers is None:
        checkpoint.pop('param_schedulers', None)
    elif words:
        checkpoint['param_schedulers'] = states if isinstance(runner.param_schedulers, dict) else states['']
    return _sentence(words, rates)


def length_changes(runner: Any, checkpoint: Mapping[str, Any], saved: Mapping[str, Any] | None) -> list[str]:
    """Another length of the run than that of the checkpoint, in words."""
    told = saved or (checkpoint.get('message_hub') or {}).get('runtime_info') or {}
    now = describe_length(runner)
    return [f'{name} {told[name]} -> {now[name]}' for name in LENGTHS if told.get(name, now[name]) != now[name]]


def _apply(
    runner: Any, checkpoint: Mapping[str, Any], name: str, state: dict[str, Any], saved: Sequence[Mapping] | None
) -> tuple[list[str], list[dict[str, Any]]]:
    """The changes of one optimizer, and the states that its schedulers are to load."""
    schedules = _of(runner.param_schedulers, name) or []
    states = list(_of(checkpoint.get('param_schedulers'), name) or [])
    before = settings_in_states(states, schedules) if saved is None or not states else saved
    now = schedule_settings(schedules)
    words = differences(before, now)
    if not words:
        return [], states
    if any(map(follows_validation, schedules)):
        return words, _with_new_settings(schedules, states, before, now)
    meta = checkpoint['meta']
    wrapper = optimizers_of(runner)[name]
    iterations, epochs = (steps_taken(states, by_epoch) for by_epoch in (False, True))
    try:
        new, groups = fast_forward(
            schedules,
            wrapper.param_groups,
            int(meta['iter']) if iterations is None else iterations,
            int(meta['epoch']) if epochs is None else epochs,
            len(runner.train_dataloader),
        )
    except ValueError as error:  # OneCycleLR cannot go beyond its end
        raise ResumeMismatchError(
            f'cannot resume: the schedules of this config ({"; ".join(words)}) do not reach iteration {meta["iter"]}: '
            f'{error}. Give them at least the length of the run'
        ) from error
    names = {schedule['param_name'] for schedule in [*states, *new]}
    for group, arrived in zip(_groups(state), groups):
        _move(group, arrived, names)
    return words, new


def _with_new_settings(
    schedules: Sequence[Any], states: Sequence[Mapping], before: Sequence, now: Sequence
) -> list[dict[str, Any]]:
    """States in which those that follow the validation have new settings and know what they knew."""
    changed = [schedule for schedule, old, new in zip(schedules, before, now) if old != new]
    if len(states) != len(schedules) or not all(map(follows_validation, changed)):
        raise ResumeMismatchError(
            f'cannot resume with other schedules ({"; ".join(differences(before, now))}): ReduceOnPlateau has changed '
            'the rate by what the validations were, which the new schedules would have to be told again. Either resume '
            'with the old ones, or start a new run from these weights: drop --resume and set load_from=PATH '
            '(--cfg-options load_from=PATH)'
        )
    kept = MOVING | FOLLOWING
    return [
        {**state, **{key: value for key, value in vars(schedule).items() if key not in kept}}
        if schedule in changed
        else dict(state)
        for schedule, state in zip(schedules, states)
    ]


def _move(group: dict[str, Any], arrived: Mapping[str, Any], names: set[str]) -> None:
    """Give a saved parameter group the values of ``names`` that the new schedules arrived at."""
    moved = {f'{part}{name}' for name in names for part in ('', 'initial_', 'max_', 'min_')}
    moved |= {'betas'} if 'momentum' in names else set()
    for key in moved:
        group.pop(key, None)
    group.update({key: value for key, value in arrived.items() if key in moved})


def _groups(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameter groups of a saved state, and the one in which MMEngine keeps the base rate."""
    base = state.get('base_param_settings')
    return [*state['param_groups'], *([] if base is None else [base])]


def _of(schedules: Any, name: str) -> Any:
    return schedules.get(name) if isinstance(schedules, dict) else schedules


def _sentence(words: Sequence[str], rates: Sequence[tuple]) -> str | None:
    if not words:
        return None
    known = [(float(before), float(after)) for before, after in rates if None not in (before, after)]
    told = ', '.join(f'{after:g} (saved: {before:g})' for before, after in known)
    return f'the schedules of this config apply ({"; ".join(words)}); the learning rate is {told}'
