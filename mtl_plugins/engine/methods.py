"""The bridge from the pure methods, which know no registry, to configs."""

import inspect
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from mmengine.registry import Registry
from torch import Tensor

from mtl_plugins.errors import UserKeyError, UserTypeError, refusing
from mtl_plugins.methods import GradientCosine, affinity, aggregation, grouping, weighting
from mtl_plugins.methods.naming import near_names
from mtl_plugins.registry import AFFINITIES, AGGREGATORS, GROUPERS, WEIGHTINGS
from mtl_plugins.utils.argument_types import check_arguments


def _register(registry: Registry, module: Any) -> None:
    for name in module.__all__:
        if not inspect.isabstract(getattr(module, name)):
            registry.register_module(name=name, module=getattr(module, name))
    registry.build_func = lambda cfg, registry, **defaults: build_part(registry, cfg, registry.name, **defaults)


_register(WEIGHTINGS, weighting)
_register(AGGREGATORS, aggregation)
_register(GROUPERS, grouping)
AFFINITIES.register_module(module=affinity.ProximalAffinity)
AFFINITIES.register_module(module=affinity.ReleasedAffinity)
AFFINITIES.register_module(module=GradientCosine)

DEFAULT_PARTS = {
    'weighting': dict(type='EqualWeighting'),
    'grouper': dict(type='AffinityPropagation'),
    'affinity': dict(type='ProximalAffinity'),
    'aggregator': dict(type='Sum'),
}
"""What None stands for as an argument of a strategy."""


def settings_of(kind: type, given: Mapping[str, Any], without: Container[str] = ()) -> dict[str, Any]:
    """What something is built with, its defaults included, by dotted names: ``{'aggregator.type': 'CAGrad', ...}``.

    Args:
        kind: Its class.
        given: The arguments that a config gives; parts of a method among them are dicts with a ``type``.
        without: Arguments that are left out.
    """
    settings: dict[str, Any] = {}
    for name, value in {**_defaults(kind), **given}.items():
        if name not in without and not _is_strategies(value):
            settings.update(_written_out(name, value))
    return settings


def _defaults(kind: type) -> dict[str, Any]:
    """The defaults of all arguments of a class, of those too that its constructor hands on as ``**kwargs``."""
    found: dict[str, Any] = {}
    for each in kind.__mro__:
        constructor = vars(each).get('__init__')
        if constructor is None:
            continue
        arguments = inspect.signature(constructor).parameters.values()
        found = {**{a.name: a.default for a in arguments if a.default is not a.empty}, **found}
        if all(a.kind is not a.VAR_KEYWORD for a in arguments):
            break
    return found


def _written_out(name: str, value: Any) -> dict[str, Any]:
    part = part_named(value['type']) if isinstance(value, Mapping) and 'type' in value else None
    if part is None:
        return {name: value}
    inner = settings_of(part, {key: each for key, each in value.items() if key != 'type'})
    return {f'{name}.type': part.__name__, **{f'{name}.{key}': each for key, each in inner.items()}}


def with_default_parts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a strategy, with the parts that stand for None."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found.update(_written_out(name, DEFAULT_PARTS.get(name) if value is None else value))
    return found


def make_the_same(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether a part is the same, built from the one settings or from the others: None may stand for a value.

    Args:
        name: Of the part, which both have.
        first: Settings by dotted names, with all of the part.
        second: The others.
    """
    try:
        return _same(*(_built(name, settings) for settings in (first, second)))
    except (TypeError, ValueError):  # of a version with other arguments
        return False


def _built(name: str, settings: Mapping[str, Any]) -> Any:
    own = {key.removeprefix(f'{name}.'): value for key, value in settings.items() if key.startswith(f'{name}.')}
    kind = part_named(own.pop('type'))
    if kind is None:
        raise TypeError
    arguments = {key: value for key, value in own.items() if '.' not in key}
    arguments.update({key: _built(key, own) for key in (k.removesuffix('.type') for k in own if k.endswith('.type'))})
    # What has no default comes from the strategy: the number of tasks.
    asked = inspect.signature(kind).parameters.values()
    return kind(**{**{each.name: 1 for each in asked if each.default is each.empty}, **arguments})


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    if type(first) is type(second) and isinstance(first, (Tensor, np.ndarray)):
        return np.array_equal(np.asarray(first), np.asarray(second), equal_nan=True)
    if type(first) is type(second) and type(first).__module__.startswith('mtl_plugins.'):
        first, second = vars(first), vars(second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    return bool(first == second)


def part_named(kind: str | type) -> type | None:
    """The class of a part of a method by its name, which may carry the prefix ``mtl_plugins.``; None: there is none."""
    name = kind.removeprefix('mtl_plugins.') if isinstance(kind, str) else kind.__name__
    registries = (WEIGHTINGS, AGGREGATORS, AFFINITIES, GROUPERS)
    return next((each.module_dict[name] for each in registries if name in each.module_dict), None)


def _is_strategies(value: Any) -> bool:
    """Whether it is a config of a strategy, or several: each strategy tells its own settings."""
    several = value if isinstance(value, (list, tuple)) and value else [value]
    return all(isinstance(each, Mapping) and 'type' in each and part_named(each['type']) is None for each in several)


def build_part(registry: Registry, cfg: Mapping[str, Any], argument: str, **defaults: Any) -> Any:
    """Build a part of a method from its config.

    Args:
        registry: The registry of its kind.
        cfg: ``dict(type=NAME, <arguments>)``; the name may carry the prefix ``mtl_plugins.``.
        argument: Name of the wrapper's argument, for messages.
        **defaults: Arguments that the config does not give.

    Raises:
        UserError: If ``cfg`` is no dict with a ``type`` (also a TypeError), there is no such class (also a KeyError; it
            lists the near matches), or the class refuses an argument.
    """
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise UserTypeError(f'{argument} must be a dict with a type, for example dict(type="..."), but got {cfg!r}')
    arguments = {**defaults, **cfg}
    kind = arguments.pop('type')
    inner = arguments.get(registry.name)
    if isinstance(inner, Mapping):  # a part around another of its kind
        arguments[registry.name] = build_part(registry, inner, f'{argument}.{registry.name}')
    if isinstance(kind, str):
        name = kind.removeprefix('mtl_plugins.')
        if name not in registry.module_dict:
            known = sorted(registry.module_dict)
            near = near_names(name, known, cutoff=0.4)
            hint = f'did you mean {" or ".join(near)}?' if near else f'known: {", ".join(known)}'
            raise UserKeyError(f"{argument}: there is no {registry.name} '{kind}'; {hint}")
        kind = registry.module_dict[name]
    with refusing(f'{argument}=dict(type="{kind.__name__}", ...)'):
        check_arguments(kind, arguments)
        return kind(**arguments)
