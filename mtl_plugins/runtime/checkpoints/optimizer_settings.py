"""Settings of an optimizer and its wrapper that a saved state brings back, whatever the config says."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

_AMP = {torch.bfloat16: 'bf16', torch.float32: 'fp32'}
_OPTIONAL = {'foreach', 'maximize', 'capturable', 'differentiable', 'fused', 'decoupled_weight_decay', 'lr'}
"""Settings that not every version of torch has, and the rate, which a one-cycle schedule replaces by its own."""
_NAMES = {
    'optimizer': 'optimizer.type',
    'growth_interval': 'precision.growth_interval',
    'init_scale': 'precision.init_scale',
}

PARTS = ('grouper', 'weighting')
"""Of a method by groups, each with a state that another class cannot take."""


def wrapper_settings(wrapper: Any) -> dict[str, Any]:
    """What a wrapper was built with, apart from the parameter groups: plain data, for a checkpoint."""
    precision = getattr(wrapper, 'precision', None)
    settings = dict(
        optimizer=type(wrapper.optimizer).__name__,
        accumulative_counts=int(getattr(wrapper, '_accumulative_counts', 1)),
        precision=getattr(precision, 'name', None) or _precision_of(wrapper),
        seed=getattr(wrapper, 'seed', None),
    )
    if getattr(precision, 'uses_scaler', False):
        settings.update(growth_interval=precision.growth_interval, init_scale=precision.init_scale)
    method: dict[str, Any] = {}
    for place, owner in _owners(wrapper).items():
        if hasattr(owner, 'grouper'):  # the name of the method says nothing of its parts
            settings.update({f'{place}{part}.type': type(getattr(owner, part)).__name__ for part in PARTS})
        if hasattr(owner, 'method_settings'):
            method.update({f'{place}{name}': plain(each) for name, each in owner.method_settings().items()})
    initial = getattr(getattr(wrapper, 'weighting', None), 'initial', None)
    if initial is not None:
        settings['weighting.initial'] = initial
    return {**settings, **({'method': method} if method else {})}


def group_settings(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each parameter group was built with, whatever schedules have made of it since; plain data."""
    return [{**_settings(group), 'size': len(group['params'])} for group in groups]


def settings_in_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """:func:`wrapper_settings` and :func:`group_settings` as far as a saved state of a wrapper tells them."""
    own = state.get('mtl') or {}
    precision = (own.get('precision') or {}).get('name')
    return {'precision': precision, **own.get('settings', {}), 'groups': group_settings(state.get('param_groups', []))}


def differences(saved: Mapping[str, Any], wrapper: Any) -> list[str]:
    """Where a saved state contradicts the settings of a newly built wrapper, in words.

    Args:
        saved: Of :func:`settings_in_state`, or :func:`wrapper_settings` with ``groups``.
        wrapper: The wrapper of this run, into which nothing was loaded yet.
    """
    now = wrapper_settings(wrapper)
    now.pop('method', None)
    found = [
        _difference(_NAMES.get(name, name), saved[name], value)
        for name, value in now.items()
        if value is not None and saved.get(name) not in (None, value) and name not in saved.get('method', ())
    ]
    if saved.get('optimizer', now['optimizer']) != now['optimizer']:
        return found  # whose groups have other settings throughout, which would say nothing more
    return found + _group_differences(saved['groups'], group_settings(wrapper.optimizer.param_groups))


def method_differences(saved: Mapping[str, Any], wrapper: Any) -> list[str]:
    """Where the settings of a method and its parts are others than those that a saved state was made with, in words.

    Args:
        saved: As for :func:`differences`.
        wrapper: The wrapper of this run.
    """
    found = []
    for place, owner in _owners(wrapper).items():
        told = saved.get('method', {}).items()
        mine = {name.removeprefix(place): each for name, each in told if name.startswith(place)}
        changed = owner.changed_settings(mine) if hasattr(owner, 'changed_settings') else {}
        found += [_difference(place + name, *values) for name, values in changed.items()]
    return found


def _owners(wrapper: Any) -> dict[str, Any]:
    """What has settings of a method, by what their names begin with: a wrapper; of a schedule, its strategies too."""
    strategies = getattr(wrapper, 'strategies', (wrapper,))
    if wrapper in strategies:
        return {'': wrapper}
    return {**{f'strategy {number}.': each for number, each in enumerate(strategies, start=1)}, '': wrapper}


def impossible(state: Mapping[str, Any], wrapper: Any) -> list[str]:
    """Those of :func:`differences` with which a wrapper cannot go on: a state that its optimizer or part cannot take.

    Args:
        state: Saved state of a wrapper, of ours or of MMEngine.
        wrapper: The wrapper of this run.
    """
    saved, now = settings_in_state(state), wrapper_settings(wrapper)
    names = ['optimizer', *(name for name in now if name.endswith('.type'))]
    found = [
        _difference(_NAMES.get(name, name), saved[name], now[name])
        for name in names
        if name in saved and name in now and saved[name] != now[name]
    ]
    needed = set(wrapper.optimizer.defaults) - _OPTIONAL
    missing = sorted({name for group in state['param_groups'] for name in needed - set(group)})
    if missing and not found:
        found.append(
            f'the saved parameter groups are of another optimizer than {now["optimizer"]}: they have no '
            f'{", ".join(missing)}'
        )
    return found


def _precision_of(wrapper: Any) -> str:
    """The precision of MMEngine's wrappers, by our names."""
    return _AMP.get(wrapper.cast_dtype, 'fp16') if hasattr(wrapper, 'cast_dtype') else 'fp32'


def _group_differences(saved: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(saved) != len(now):
        return [_difference('number of parameter groups (paramwise_cfg)', len(saved), len(now))]
    found: dict[str, list[int]] = {}
    for number, (old, new) in enumerate(zip(saved, now)):
        for name, value in new.items():
            before = old.get(name, value if name in _OPTIONAL else 'nothing')
            if before != value:
                what = 'number of parameters' if name == 'size' else f'optimizer.{name}'
                found.setdefault(_difference(what, _shown(before), _shown(value)), []).append(number)
    return [
        text if len(numbers) == len(now) else f'{text} (parameter groups {", ".join(map(str, numbers[:5]))})'
        for text, numbers in found.items()
    ]


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    written = {f'{part}_{name}' for part in ('initial', 'max', 'min') for name in group} | {'params', 'param_names'}
    # A schedule of the momentum adds an entry beside the betas.
    written |= {name for name in group if f'max_{name}' in group} | ({'momentum'} if 'betas' in group else set())
    return {name: _first_value(group, name) for name in group if name not in written}


def _first_value(group: Mapping[str, Any], name: str) -> Any:
    """What a setting was before any schedule changed it."""
    value = group.get(f'initial_{name}', group[name])
    if name == 'betas' and 'initial_momentum' in group:
        value = (group['initial_momentum'], *value[1:])
    return plain(value)


def plain(value: Any) -> Any:
    """A setting as a checkpoint holds it: numbers, texts, lists and dicts; anything else by its ``repr``."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if hasattr(value, 'tolist'):  # tensors and arrays
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return list(map(plain, value)) if isinstance(value, (list, tuple)) else repr(value)


def _difference(name: str, before: Any, now: Any) -> str:
    return f'optim_wrapper.{name}: {before} in the checkpoint, {now} now'


def _shown(value: Any) -> Any:
    return f'{value:g}' if isinstance(value, float) else value
