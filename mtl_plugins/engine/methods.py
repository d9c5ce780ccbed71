"""The bridge from the pure methods, which know no registry, to configs."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from typing import Any

from mmengine.registry import Registry

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


def settings_of(kind: type, given: Mapping[str, Any], without: Container[str] = ()) -> dict[str, Any]:
    """What something is built with, its defaults included, by dotted names: ``{'aggregator.type': 'CAGrad', ...}``.

    Args:
        kind: Its class.
        given: The arguments that a config gives; parts of a method among them are dicts with a ``type``.
        without: Arguments that are left out.
    """
    defaults = {name: each.default for name, each in inspect.signature(kind).parameters.items()}
    settings: dict[str, Any] = {}
    for name, value in {**defaults, **given}.items():
        if name in without or value is inspect.Parameter.empty or _is_strategies(value):
            continue
        part = part_named(value['type']) if isinstance(value, Mapping) and 'type' in value else None
        if part is None:
            settings[name] = value
            continue
        inner = settings_of(part, {key: each for key, each in value.items() if key != 'type'})
        settings.update({f'{name}.type': part.__name__, **{f'{name}.{key}': each for key, each in inner.items()}})
    return settings


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
