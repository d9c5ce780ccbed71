"""What a model costs: parameters and multiply-adds of its parts, without its weights in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mtl_plugins.utils.cfg_options import ConfigArgumentParser

from .arguments import positive


@dataclass(frozen=True)
class PartCost:
    """Cost of one part of a model.

    Attributes:
        name: Name of the module, ``''`` for the whole model.
        parameters: Numbers that are learned.
        multiply_adds: Multiply-adds of convolutions, matrix products and attention for one image. Normalisation,
            activations, softmax, pooling and interpolation are not counted. One multiply-add is two floating point
            operations, but is what most papers call a FLOP.
    """

    name: str
    parameters: int
    multiply_adds: int


def model_cost(model: Mapping[str, Any], size: Sequence[int], depth: int = 1) -> list[PartCost]:
    """Count the cost of a model's prediction for one image.

    The model is built without memory for its weights and run on tensors without values, so that the largest models can
    be counted anywhere.

    Args:
        model: Config of the model, which takes ``(images, mode='tensor')``; pretrained weights are not looked for.
        size: Height and width of the image.
        depth: Levels of parts below the whole model.

    Returns:
        The whole model, then its parts, each followed by its own.
    """
    cfg = Config(dict(model=model)).model.to_dict()
    if cfg['backbone'].get('pretrained'):
        cfg['backbone']['pretrained'] = False
    with torch.device('meta'):
        built = revert_sync_batchnorm(MODELS.build(cfg)).eval()
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        built.to_empty(device='cpu')
        with counter, torch.no_grad():
            built(torch.empty(1, 3, *size), mode='tensor')
    return _parts('', type(built).__name__, built, counter.get_flop_counts(), depth)


def _parts(name: str, key: str, module: nn.Module, counts: Mapping[str, Mapping], depth: int) -> list[PartCost]:
    parts = [PartCost(name, sum(p.numel() for p in module.parameters()), _operations(key, module, counts) // 2)]
    for child_name, child in module.named_children() if depth else ():
        path = f'{name}.{child_name}' if name else child_name
        parts += _parts(path, f'{key}.{child_name}', child, counts, depth - 1)
    return [part for part in parts if part.parameters or part.multiply_adds]


def _operations(key: str, module: nn.Module, counts: Mapping[str, Mapping]) -> int:
    """Floating point operations inside a module; containers that are never called themselves stand for their parts."""
    if key in counts:
        return sum(counts[key].values())
    return sum(_operations(f'{key}.{name}', child, counts) for name, child in module.named_children())


def build_parser() -> ConfigArgumentParser:
    """The options of ``model_cost``."""
    parser = ConfigArgumentParser(
        prog='model_cost',
        description='Parameters and multiply-adds of a model and its parts, for one image. Needs neither data nor '
        'weights, and hardly any memory. Multiply-adds are those of convolutions, matrix products and attention.',
    )
    parser.add_argument('config', help='config with a model; a fragment of configs/_base_/models with heads will do')
    parser.add_argument(
        '--size', type=positive, nargs=2, metavar=('H', 'W'), help="size of the image (the backbone's img_size)"
    )
    parser.add_argument('--depth', type=positive, default=1, metavar='N', help='levels of parts that are listed (1)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv`` and print the table; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if not cfg.get('model'):
        parser.error(f'{args.config} has no model')
    size = args.size or cfg.model.backbone.get('img_size')
    if size is None:
        parser.error('the config does not tell the size of the images; give --size H W')
    size = (size, size) if isinstance(size, int) else tuple(size)
    init_default_scope(cfg.get('default_scope', 'mtl_plugins'))
    table = Table(title=f'one image of {size[0]} x {size[1]}')
    table.add_column('part')
    table.add_column('parameters', justify='right')
    table.add_column('multiply-adds (10⁹)', justify='right')
    for part in model_cost(cfg.model, size, args.depth):
        table.add_row(part.name or 'whole model', f'{part.parameters:,}', f'{part.multiply_adds / 1e9:,.2f}')
    Console().print(table)
    return 0
