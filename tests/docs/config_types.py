"""The ``type='X'`` in a piece of a config: is there such a class, and does it take the other arguments?"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import Registry
from mmengine.registry import root as roots
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

import mtl_plugins.registry as registries
from mtl_plugins.methods.naming import near_matches


def find(name: str) -> list[Any]:
    """The classes that a config may mean by ``name``, one per kind. Our registries fall through to those of others."""
    nodes = [each for each in vars(registries).values() if isinstance(each, Registry)]
    kinds = {node.name for node in nodes}
    nodes += [each for each in vars(roots).values() if isinstance(each, Registry) and each.name not in kinds]
    return [found for found in (node.get(name) for node in nodes) if found is not None]


def problem_of(cfg: Mapping[str, Any]) -> str | None:
    """What is wrong with one ``dict(type=..., ...)``, None if nothing is."""
    kind = cfg['type']
    problem = f'no type {kind!r}'
    for found in find(kind) if isinstance(kind, str) else [kind]:
        taken = _arguments(found)
        unknown = [key for key in cfg if key not in ('type', '_delete_', '_scope_') and taken and key not in taken]
        if not unknown:
            return None
        problem = f'{kind} takes no {unknown[0]}: {near_matches(unknown[0], taken)}'
    return problem


def _arguments(kind: Any) -> set[str]:
    """Names of the arguments of a class, with those that it hands on to its bases; empty if it may take any."""
    if inspect.isclass(kind) and issubclass(kind, _NormBase):  # mmcv takes some of its settings out
        return set()
    names: set[str] = set()
    for base in inspect.getmro(kind) if inspect.isclass(kind) else [kind]:
        if inspect.isclass(base) and (base is object or '__init__' not in vars(base)):
            continue
        parameters = inspect.signature(base.__init__ if inspect.isclass(base) else base).parameters
        names.update(parameters)
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            return names
        # TimmViT, for example, hands them on to timm, ZeroRedundancyOptimizer to the optimizer that it is given.
        if (inspect.isclass(base) and issubclass(base, nn.Module)) or 'optimizer_class' in parameters:
            return set()
    return set()


def walk(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every dict with ``type`` in a config, at any depth."""
    if isinstance(value, Mapping):
        if isinstance(value.get('type'), (str, type)):
            yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from walk(inner)


def written_in(code: str) -> Iterator[dict[str, Any]]:
    """Every ``dict(type='X', name=...)`` in a piece of Python, with the names of its arguments alone."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
            names = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
            if isinstance(names.get('type'), ast.Constant) and isinstance(names['type'].value, str):
                yield {**names, 'type': names['type'].value}
