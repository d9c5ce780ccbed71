"""Parts of MMSegmentation that do not build with the packages that are installed."""

import importlib.util
from typing import Any

from mtl_plugins.errors import UserImportError

from .places import kind_of, walk

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
    for name in (kind_of(node) for _, node in walk(model)):
        missing = [package for package in _NEEDS.get(name, ()) if not _installed(_MODULES[package])]
        if missing:
            raise UserImportError(
                f'{name} of MMSegmentation needs {" and ".join(missing)}, which this environment does not have: '
                'install them (docs/existing_models.md says how), or choose another head'
            )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package above it
        return False
