"""Pretrained weights for timm ViTs: from timm's hub or from a local file, never executing what a file contains."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from mtl_plugins.errors import UserError, UserFileNotFoundError, UserRuntimeError

from .hub import NO_ANSWER, hub_answers

_WAYS_OUT = (
    'Ways on: pretrained=<path> of a local file (.npz, .safetensors, .pth, .pt), for instance the .npz files of '
    "Google's AugReg ViTs, or a file of the model's page on the Hugging Face hub, fetched where there is a network; "
    'or pretrained=False for random weights (--cfg-options model.backbone.pretrained=False)'
)
_SUFFIXES = ('.npz', '.safetensors', '.pth', '.pt', '.bin', '.tar')
_CONTAINERS = ('state_dict', 'model', 'module')
# What DDP and torch.compile, then segmentors (ours among them) put before the names of the ViT's parameters.
_WRAPPERS = re.compile(r'^((module|_orig_mod)\.)+')
_OWNERS = re.compile(r'^(backbone\.)?(vit\.)?')
# What a classifier has behind its features.
_CLASSIFIER = re.compile(r'(head|head_dist|pre_logits|attn_pool)\.')


def load_timm_weights(vit: VisionTransformer, model_name: str, build: Callable[[], VisionTransformer]) -> None:
    """Copy timm's own weights into ``vit``.

    Args:
        vit: The model to fill.
        model_name: Its name, for messages.
        build: Builds the same model with ``pretrained=True``.

    Raises:
        RuntimeError: If they cannot be had: no network, no weights of this name, or a model of other dimensions.
    """
    reachable = hub_answers()
    try:
        source = build()
    except Exception as error:  # timm, its hub client and their transports raise whatever they like
        raise UserRuntimeError(
            f'TimmViT: timm could not deliver pretrained weights for {model_name!r} ({type(error).__name__}: {error}). '
            f'{"" if reachable else f"{NO_ANSWER[0].upper()}{NO_ANSWER[1:]}. "}{_WAYS_OUT}'
        ) from error
    vit.load_state_dict(source.state_dict())


def load_local_weights(
    vit: VisionTransformer,
    path: str | Path,
    grid: tuple[int, int] | None = None,
    setting: str = 'pretrained',
    prefix: str = '',
) -> None:
    """Fill ``vit`` from a local file; position embeddings of another grid are resized.

    Args:
        vit: The model to fill.
        path: A URL that MMEngine can load, or a file: ``.npz`` (original JAX file), ``.safetensors``, or a PyTorch file
            with a state dict, also nested in ``state_dict`` or ``model`` and with prefixes such as ``backbone.``.
        grid: Rows and columns of the file's position embedding, see :class:`~mtl_plugins.models.TimmViT`.
        setting: What the path comes from, for messages.
        prefix: Take only the tensors whose names begin with it, without it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read safely or does not hold weights of this model.
    """
    if '://' in str(path):
        content = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
        _load_state(vit, _plain_names(content, path, setting, prefix), path, grid, setting)
        return
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserFileNotFoundError(f"TimmViT: {setting}='{path}' is not a file. {_WAYS_OUT}")
    if path.suffix not in _SUFFIXES:
        raise UserError(f"TimmViT: {setting}='{path}' must end with one of {_SUFFIXES}. {_WAYS_OUT}")
    if path.suffix == '.npz':
        _load_npz(vit, path, setting)
    else:
        _load_state(vit, _plain_names(_read(path, setting), path, setting, prefix), path, grid, setting)


def _load_npz(vit: VisionTransformer, path: Path, setting: str) -> None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            blocks = {int(found[1]) for name in arrays.files if (found := re.search(r'encoderblock_(\d+)/', name))}
        if blocks and blocks != set(range(len(vit.blocks))):
            raise ValueError(f'it has {len(blocks)} blocks, the model {len(vit.blocks)}')
        vit.load_pretrained(str(path))
    except Exception as error:  # damaged archives raise OSError, BadZipFile, ...; other sizes RuntimeError or KeyError
        raise UserError(
            f"TimmViT: {setting}='{path}' does not hold the weights of this model ({type(error).__name__}: {error}). "
            f'{_WAYS_OUT}'
        ) from error


def _read(path: Path, setting: str) -> Any:
    try:
        return load_file(path) if path.suffix == '.safetensors' else torch.load(path, 'cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"TimmViT: {setting}='{path}' holds more than tensors and plain values, or is damaged, and is not loaded, "
            f'because unpickling it could run code ({str(error).splitlines()[0]}). Save its state dict alone, or '
            f'convert it to .safetensors. {_WAYS_OUT}'
        ) from error
    except (RuntimeError, EOFError, OSError, SafetensorError) as error:
        raise UserError(f"TimmViT: {setting}='{path}' cannot be read ({error}). {_WAYS_OUT}") from error


def _plain_names(content: Any, path: str | Path, setting: str, prefix: str) -> dict[str, Tensor]:
    """The state dict in ``content``, with timm's parameter names."""
    for name in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise UserError(f"TimmViT: {setting}='{path}' holds no state dict, but a {type(content).__name__}. {_WAYS_OUT}")
    content = {_WRAPPERS.sub('', name): value for name, value in content.items() if isinstance(value, Tensor)}
    content = {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}
    if any(name.startswith('backbone.') for name in content):  # a whole segmentor: leave its heads out
        content = {name: value for name, value in content.items() if name.startswith('backbone.')}
    state = {_OWNERS.sub('', name): value for name, value in content.items()}
    return {name: value for name, value in state.items() if not _CLASSIFIER.match(name)}


def _load_state(
    vit: VisionTransformer, state: dict[str, Tensor], path: str | Path, grid: tuple[int, int] | None, setting: str
) -> None:
    own = vit.state_dict()
    if 'pos_embed' in own and 'pos_embed' in state:
        state['pos_embed'] = _fit_positions(vit, state['pos_embed'], path, grid, setting)
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    reshaped = [
        f'{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}'
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f'{title}: {", ".join(names[:3])}{f" and {len(names) - 3} more" if len(names) > 3 else ""}'
        for title, names in (('missing', missing), ('not in the model', unexpected), ('of another shape', reshaped))
        if names
    ]
    if problems:
        raise UserError(
            f"TimmViT: {setting}='{path}' does not hold the weights of this model ({'; '.join(problems)}). Check "
            f'model_name, embed_dim, depth and patch_size. {_WAYS_OUT}'
        )
    vit.load_state_dict(state)


def _fit_positions(
    vit: VisionTransformer, positions: Tensor, path: str | Path, grid: tuple[int, int] | None, setting: str
) -> Tensor:
    """Position embedding ``(1, prefix + rows * columns, dim)`` resized to the grid of ``vit``."""
    new_grid = tuple(vit.patch_embed.grid_size)
    prefix = vit.pos_embed.shape[1] - math.prod(new_grid)
    if positions.ndim != 3 or positions.shape[-1] != vit.embed_dim:
        return positions  # reported with the other shapes
    count = positions.shape[1] - prefix
    if grid is None:
        side = math.isqrt(max(count, 0))
        grid = (side, side) if side * side == count else new_grid
    if math.prod(grid) != count:
        raise UserError(
            f"TimmViT: the position embedding of {setting}='{path}' has {count} positions, which are no "
            f'{grid[0]} x {grid[1]} grid; give its rows and columns with pretrained_grid=(rows, columns)'
        )
    return resample_abs_pos_embed(positions, list(new_grid), list(grid), num_prefix_tokens=prefix)
