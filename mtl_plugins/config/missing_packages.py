"""Parts of MMSegmentation that do not build with the packages that are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from mtl_plugins.errors import UserImportError

_OPERATORS = 'the compiled operators of mmcv'
_MMDET = 'onedl-mmdetection'
_MODULES = {_OPERATORS: 'mmcv._ext', _MMDET: 'mmdet'}
_NEEDS = {
    'MaskFormerHead': (_MMDET, _OPERATORS),
    'Mask2FormerHead': (_MMDET, _OPERATORS),
    'PointHead': (_OPERATORS,),
    'CCHead': (_OPERATORS,),
    'PSAHead': (_OPERATORS,),
    'SideAdapterCLIPHead': (_OPERATORS,),
}
"""Heads of mmseg -> what they need besides mmseg itself."""


def refuse_missing_packages(model: Any) -> None:
    """Refuse the config of a model that needs packages which are not there, before half of it is built.

    Raises:
        UserImportError: Naming the part and the packages.
    """
    for name in _types(model):
        missing = [package for package in _NEEDS.get(name, ()) if not _installed(_MODULES[package])]
        if missing:
            raise UserImportError(
                f'{name} of MMSegmentation needs {" and ".join(missing)}, which this environment does not have: '
                'install them (docs/existing_models.md says how), or choose another head'
            )


def _types(node: Any) -> Iterator[str]:
    """Names of all parts in a config, without the scope before the dot."""
    if isinstance(node, dict):
        kind = node.get('type')
        if kind is not None:
            yield str(getattr(kind, '__name__', kind)).rpartition('.')[2]
    values = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    for value in values:
        yield from _types(value)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package above it
        return False
