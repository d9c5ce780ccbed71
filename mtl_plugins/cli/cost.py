"""What a model costs: parameters and multiply-adds of its parts, without its weights in memory."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mtl_plugins.config.loading import load_config
from mtl_plugins.config.places import enter_scope
from mtl_plugins.config.refusals import refusals_of
from mtl_plugins.evaluation.result_table import plain_table
from mtl_plugins.experiments.measuring import image_size
from mtl_plugins.experiments.measuring.methods import build_plain
from mtl_plugins.visualization.bars import PartCost, draw_parts

from .parsers import command


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
    with torch.device('meta'):
        built = build_plain(model).eval()
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


def main_parts(parts: Sequence[PartCost]) -> list[PartCost]:
    """Backbone, decoder and every head, or what else the model consists of: parts that do not overlap.

    Args:
        parts: Of :func:`model_cost` with ``depth`` 2 or more.
    """
    heads = [part for part in parts if part.name.startswith('heads.') and part.name.count('.') == 1]
    tops = [part for part in parts if part.name and '.' not in part.name and not (heads and part.name == 'heads')]
    return tops + heads


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Print the table; returns the exit code."""
    cfg = load_config(args.config, args.cfg_options)
    if not cfg.get('model'):
        parser.error(f'{args.config} has no model')
    size = tuple(args.size) if args.size else image_size(cfg)
    if size is None:
        parser.error('the config does not tell the size of the images; give --size H W')
    enter_scope(cfg)
    with refusals_of(cfg):
        parts = model_cost(cfg.model, size, max(args.depth or 0, 2))
    listed = [part for part in parts if not part.name or part.name.count('.') < args.depth] if args.depth else None
    main_ones = main_parts(parts)
    whole = parts[0]
    table = plain_table(
        f'one image of {size[0]} x {size[1]}', ('part',), ('parameters', '%', 'multiply-adds (10⁹)', '%')
    )
    for part in listed or [whole, *main_ones]:
        table.add_row(
            part.name or 'whole model',
            f'{part.parameters:,}',
            _share(part.parameters, whole.parameters),
            f'{part.multiply_adds / 1e9:,.{2 if part.multiply_adds >= 1e10 else 4}f}',
            _share(part.multiply_adds, whole.multiply_adds),
        )
    console = Console()
    console.print(table)
    path = (args.out or Path('work_dirs', 'cost', Path(args.config).stem)) / 'model_cost.png'
    draw_parts(main_ones, 'Where the model is large and where it computes', f'One image of {size[0]} x {size[1]}', path)
    console.print(str(path), soft_wrap=True, highlight=False, markup=False)
    return 0


def _share(value: float, whole: float) -> str:
    return f'{100 * value / whole:.1f}' if whole else '-'
