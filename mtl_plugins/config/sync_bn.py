"""Batch normalisation across processes, which most configs of MMSegmentation ask for and the CPU does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config

from mtl_plugins.errors import UserError

_NAMES = ('SyncBN', 'SyncBatchNorm', 'MMSyncBN')


def sync_bn_places(node: Any, place: str = 'model') -> Iterator[str]:
    """Every entry of a model's config that asks for SyncBatchNorm, for example ``model.backbone.norm_cfg``."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    if isinstance(node, dict) and str(node.get('type')).rpartition('.')[2] in _NAMES:
        yield place
    for key, value in items:
        yield from sync_bn_places(value, f'{place}.{key}')


def refuse_sync_bn_on_cpu(cfg: Config) -> None:
    """Say how to go on before torch fails in the first forward.

    Raises:
        ValueError: If the model has SyncBatchNorm and there is no CUDA.
    """
    if torch.cuda.is_available():
        return
    places = list(sync_bn_places(cfg.get('model')))
    if places:
        options = ' '.join(f'{place}.type=BN' for place in places)
        raise UserError(
            f'the model asks for SyncBatchNorm, which needs CUDA, in {", ".join(places)}. On the CPU take the ordinary '
            f'one: --cfg-options {options}'
        )
