"""Files that parts of a model are to begin with (``init_cfg=dict(type='Pretrained', ...)``), checked before they do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import nn

from mtl_plugins.errors import UserError, UserFileNotFoundError

_WRAPPER = re.compile(r'^(module\.)+')


def check_init_files(model: nn.Module) -> None:
    """Refuse an ``init_cfg`` whose file is not there, or has no tensor of that part of the model.

    MMEngine loads such a file with ``strict=False``, so a file of another model leaves the weights random.

    Raises:
        FileNotFoundError: If a file is not there.
        UserError: If none of its tensors fits.
    """
    for place, module, entry in _pretrained(model):
        checkpoint, prefix = entry.get('checkpoint'), entry.get('prefix') or ''
        named = f'{place}init_cfg.checkpoint={checkpoint!r}'
        if not isinstance(checkpoint, str):
            raise UserError(f'{named} must be the path or URL of a checkpoint')
        if '://' not in checkpoint and not os.path.isfile(os.path.expanduser(checkpoint)):
            raise UserFileNotFoundError(
                f'{named} is not a file; correct the path, or remove init_cfg to begin with random weights'
            )
        if type(module).init_weights is not BaseModule.init_weights:
            continue  # it may have its own way with the names in the file
        content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
        weights = content.get('state_dict', content) if isinstance(content, Mapping) else {}
        prefix = prefix if not prefix or prefix.endswith('.') else f'{prefix}.'
        saved = {_WRAPPER.sub('', name): value for name, value in weights.items() if hasattr(value, 'shape')}
        own = {f'{prefix}{name}': value for name, value in module.state_dict().items()}
        if not any(name in saved and saved[name].shape == value.shape for name, value in own.items()):
            raise UserError(
                f'{named}: none of its {len(saved)} tensors fits (it has {next(iter(saved), "no tensor")}, the model '
                f'{next(iter(own), "no tensor")}), so the weights would stay random. Name the right file, or the part '
                "of it that is meant, such as init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')"
            )


def _pretrained(model: nn.Module) -> Iterator[tuple[str, nn.Module, Mapping[str, Any]]]:
    for name, module in model.named_modules():
        settings = getattr(module, 'init_cfg', None)
        # What loads its files by itself, as TimmViT does, checks them, too; what is initialized already loads nothing.
        if not settings or hasattr(module, '_loaded_init') or getattr(module, 'is_init', False):
            continue
        for entry in [settings] if isinstance(settings, Mapping) else settings:
            if isinstance(entry, Mapping) and entry.get('type') in ('Pretrained', PretrainedInit):
                yield f'model.{name}.' if name else 'model.', module, entry
