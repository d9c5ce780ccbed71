"""Channels of a backbone's maps, found out where the backbone does not tell them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl_plugins.errors import UserError

PROBE_SIZE = 64
"""Side of the imagined image: two positions at 1/32, so that batch normalisation has something to normalise."""


def map_channels(backbone: nn.Module) -> tuple[int, ...]:
    """Channels of each map that a backbone returns.

    Backbones of ours say so in ``out_channels``, a sequence. Those of mmseg and others do not (a single number of that
    name can be anything), so an imagined batch of two images is sent through them on the ``meta`` device, where tensors
    have shapes but no values: it costs neither memory nor arithmetic, and neither weights nor running statistics
    change.

    Args:
        backbone: Takes images ``(N, 3, H, W)``, returns a map or a sequence of maps ``(N, C, h, w)``.

    Raises:
        ValueError: If the backbone says nothing and cannot be run like that, or does not return maps.
    """
    told = getattr(backbone, 'out_channels', None)
    if isinstance(told, Sequence):
        return tuple(told)
    name = type(backbone).__name__
    try:
        maps, _ = run_on_meta(backbone)
    except Exception as error:
        raise UserError(
            f'the backbone {name} does not tell its out_channels, and a trial run with images of {PROBE_SIZE} x '
            f'{PROBE_SIZE} failed ({type(error).__name__}: {error}). Give the backbone an attribute out_channels, one '
            "number per map, or set decoder=dict(type='mtl_plugins.ConcatDecoder', in_channels=[...]), and in_channels "
            "in heads with features='last' or 'maps'"
        ) from error
    maps = (maps,) if isinstance(maps, Tensor) else maps
    if not isinstance(maps, Sequence) or not all(isinstance(m, Tensor) and m.ndim == 4 for m in maps):
        raise UserError(
            f'the backbone {name} must return a map (N, C, h, w) or a sequence of maps, but returned '
            f'{_describe(maps)}; see its arguments on the output (out_indices, output_cls_token, ...)'
        )
    return tuple(m.shape[1] for m in maps)


def run_on_meta(
    backbone: nn.Module, size: Sequence[int] = (PROBE_SIZE, PROBE_SIZE), grad: bool = False
) -> tuple[Any, dict[str, Tensor]]:
    """What ``backbone`` returns for two imagined images of ``size``, and the imagined tensors it was run with.

    Args:
        backbone: Its weights and statistics do not change.
        size: Height and width.
        grad: Whether the output has a graph, down to the parameters.
    """
    tensors = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    meta = {
        key: torch.empty_like(tensor, device='meta').requires_grad_(tensor.requires_grad and grad)
        for key, tensor in tensors.items()
    }
    with torch.set_grad_enabled(grad), torch.random.fork_rng(devices=[]):
        image = torch.empty(2, 3, *size, device='meta')
        return torch.func.functional_call(backbone, meta, (image,)), meta


def _describe(output: object) -> str:
    if isinstance(output, Sequence) and not isinstance(output, str):
        return f'[{", ".join(_describe(part) for part in output)}]'
    return f'shape {tuple(output.shape)}' if isinstance(output, Tensor) else type(output).__name__
