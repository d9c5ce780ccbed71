"""Parts of MMSegmentation's models that do not build or run here: packages or a GPU that they need are not there."""

from typing import Any

import torch
from mmengine.config import Config

from mtl_plugins.compat import is_installed
from mtl_plugins.errors import UserError, UserImportError

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
_SYNC_BN = ('SyncBN', 'SyncBatchNorm', 'MMSyncBN')
"""Batch normalisation across processes, which most configs of MMSegmentation ask for and the CPU does not have."""


def refuse_missing_packages(model: Any) -> None:
    """Refuse the config of a model that needs packages which are not there, before half of it is built.

    Raises:
        UserImportError: Naming the part and the packages.
    """
    for name in (kind_of(node) for _, node in walk(model)):
        missing = [package for package in _NEEDS.get(name, ()) if not is_installed(_MODULES[package])]
        if missing:
            raise UserImportError(
                f'{name} of MMSegmentation needs {" and ".join(missing)}, which this environment does not have: '
                'install them (docs/existing_models.md says how), or choose another head'
            )


def sync_bn_places(model: Any) -> list[str]:
    """Every entry of a model's config that asks for SyncBatchNorm, for example ``model.backbone.norm_cfg``."""
    return [place for place, node in walk(model, 'model') if kind_of(node) in _SYNC_BN]


def refuse_sync_bn_on_cpu(cfg: Config) -> None:
    """Say how to go on before torch fails in the first forward.

    Raises:
        ValueError: If the model has SyncBatchNorm and there is no CUDA.
    """
    if torch.cuda.is_available():
        return
    places = sync_bn_places(cfg.get('model'))
    if places:
        options = ' '.join(f'{place}.type=BN' for place in places)
        raise UserError(
            f'the model asks for SyncBatchNorm, which needs CUDA, in {", ".join(places)}. On the CPU take the ordinary '
            f'one: --cfg-options {options}'
        )
