"""Batch normalisation across processes, which most configs of MMSegmentation ask for and the CPU does not have."""

from typing import Any

import torch
from mmengine.config import Config

from mtl_plugins.errors import UserError

from .places import kind_of, walk

_NAMES = ('SyncBN', 'SyncBatchNorm', 'MMSyncBN')


def sync_bn_places(model: Any) -> list[str]:
    """Every entry of a model's config that asks for SyncBatchNorm, for example ``model.backbone.norm_cfg``."""
    return [place for place, node in walk(model, 'model') if kind_of(node) in _NAMES]


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
