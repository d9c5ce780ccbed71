"""What methods cost per batch, from the command line: ``tools/analysis/throughput.py``."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mtl_plugins.config.arguments import (
    add_precision,
    add_tasks,
    counts,
    folder_to_write,
    pair,
    positive,
    usable_device,
)
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.config.loading import load_config
from mtl_plugins.errors import UserError
from mtl_plugins.experiments.compare import LENGTHS, Variant, parse_variants
from mtl_plugins.experiments.measuring import image_size, synthetic_batch
from mtl_plugins.experiments.measuring.methods import MethodCost, build_model, build_steps, measure
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.runtime.hooks.environment import collect_environment
from mtl_plugins.runtime.memory import format_bytes
from mtl_plugins.visualization.costs import CostBar, draw_costs

EPILOG = (
    'METHODS: keys of tools/train.py --list-methods, with options where they differ from the preset: '
    'gd,cagrad,mgda-slow=mgda[level=parameters]. example: '
    'python tools/analysis/throughput.py configs/rooms/gd_vit-micro_8b-2k_rooms-96.py --methods gd,stgu,pcgrad,famo'
)


def build_parser() -> ConfigArgumentParser:
    """The options of the tool."""
    parser = ConfigArgumentParser(
        prog='throughput',
        description='Images per second, forwards and backwards, and peak memory of methods on the model of a config, '
        'with random images and labels of its shapes: no data is needed. The steps of all methods are timed in turn, '
        'so that the ratios hold on a busy machine. Times are those of the step, without loading data.',
        epilog=EPILOG,
    )
    parser.add_argument('config', help='config file of a multi-task training')
    parser.add_argument('--methods', type=_variants, required=True, metavar='METHODS', help='what to compare')
    parser.add_argument('--batch-size', type=positive, metavar='N', help="images per batch (the config's)")
    parser.add_argument('--size', type=pair, metavar='H,W', help="size of the images (the config's)")
    parser.add_argument(
        '--groups',
        type=counts,
        default=[2],
        metavar='M,...',
        help='numbers of groups that STGU is measured with, since made-up images have no affinity to follow (2)',
    )
    add_tasks(parser, 'only these tasks of the config (all)')
    add_precision(parser)
    parser.add_argument('--rounds', type=positive, default=10, metavar='N', help='timed steps per method (10)')
    parser.add_argument('--device', type=usable_device, help='cpu, cuda or cuda:N (cuda if there is one)')
    parser.add_argument(
        '--out', type=folder_to_write, metavar='DIR', help='result and picture (work_dirs/throughput/<config name>)'
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv`` and measure; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    cfg = load_config(args.config, args.cfg_options, tasks=args.tasks)
    size = args.size or image_size(cfg)
    if size is None:
        parser.error('the config does not tell the size of the images; give --size H,W')
    if args.rounds < 2:
        parser.error('--rounds must be 2 or more, for a median and its spread')
    batch_size = args.batch_size or cfg.train_dataloader.batch_size
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    init_default_scope(cfg.get('default_scope', 'mtl_plugins'))
    model = build_model(cfg, device)
    batch = synthetic_batch(model, size, batch_size)
    steps = build_steps(cfg, model, args.methods, args.groups, args.precision, batch)
    console = Console(soft_wrap=True, highlight=False)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task('measuring', total=len(steps) * (args.rounds + 2))
        costs = measure(steps, batch_size, args.rounds, lambda: progress.advance(bar))
    where = torch.cuda.get_device_name(device) if device.type == 'cuda' else f'CPU, threads: {torch.get_num_threads()}'
    precision = args.precision or cfg.optim_wrapper.get('precision', 'fp32')
    setting = f'batches of {batch_size} images of {size[0]} x {size[1]}, {precision}'
    console.print(cost_table(costs, f'{Path(args.config).stem}\n{setting}\n{where}'))
    out = args.out or Path('work_dirs', 'throughput', Path(args.config).stem)
    out.mkdir(parents=True, exist_ok=True)
    record = dict(
        version=1, config=Path(args.config).name, size=size, batch_size=batch_size, precision=precision,
        device=where, rounds=args.rounds, environment=collect_environment(), methods=[cost.as_dict() for cost in costs],
    )  # fmt: skip
    write_atomically(json.dumps(record, default=str, indent=1).encode(), out / 'throughput.json')
    bars = [
        CostBar(cost.name, cost.to_first.median, (cost.to_first.low, cost.to_first.high), cost.memory / costs[0].memory)
        for cost in costs
    ]
    draw_costs(bars, f'Cost of a batch in units of {costs[0].name}', f'{setting}; {where}', out / 'throughput.png')
    console.print(str(out / 'throughput.json'), str(out / 'throughput.png'), sep='\n', markup=False)
    return 0


def cost_table(costs: Sequence[MethodCost], title: str) -> Table:
    """The figures for people."""
    first = costs[0].name
    table = Table(
        title=title,
        title_justify='left',
        caption_justify='left',
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.caption = (
        f'time and ratio (of memory): in units of {first}; time as median (quartiles) over the rounds.\n'
        'fwd, bwd: forwards and backwards of a batch. memory: weights, state of the optimizer, peak of a step'
    )
    table.add_column('method', no_wrap=True)
    for heading in ('img/s', 's/batch', 'time', 'fwd', 'bwd', 'memory', 'ratio'):
        table.add_column(heading, justify='right', no_wrap=True)
    for cost in costs:
        table.add_row(
            cost.name,
            f'{cost.images_per_second:.4g}',
            f'{cost.seconds.median:.3g}',
            str(cost.to_first),
            f'{cost.forwards:.3g}',
            f'{cost.backwards:.3g}',
            format_bytes(cost.memory),
            f'{cost.memory / costs[0].memory:.2f}',
        )
    return table


def _variants(text: str) -> list[Variant]:
    try:
        variants = parse_variants(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    for variant in variants:
        lengths = [name for name in LENGTHS if name in variant.options]
        if lengths:
            raise argparse.ArgumentTypeError(
                f'{variant.name}: {lengths[0]} is a length of training, on which no step depends; leave it out'
            )
    referring = [variant.name for variant in variants if variant.references]
    if referring:
        raise argparse.ArgumentTypeError(f'{referring[0]}: references need finished runs; give a number instead')
    return variants
