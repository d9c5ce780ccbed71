"""What methods cost per batch, from the command line: ``tools/analysis/throughput.py``."""

import json
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mtl_plugins.config.loading import load_config
from mtl_plugins.config.places import enter_scope
from mtl_plugins.evaluation.result_table import plain_table
from mtl_plugins.experiments.measuring import image_size, synthetic_batch
from mtl_plugins.experiments.measuring.methods import MethodCost, build_model, build_steps, measure
from mtl_plugins.runtime.checkpoints import write_atomically
from mtl_plugins.runtime.hooks.environment import collect_environment
from mtl_plugins.runtime.memory import format_bytes
from mtl_plugins.visualization.bars import CostBar, draw_costs

from .parsers import command


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Measure; returns the exit code."""
    cfg = load_config(args.config, args.cfg_options, tasks=args.tasks)
    size = args.size or image_size(cfg)
    if size is None:
        parser.error('the config does not tell the size of the images; give --size H,W')
    if args.rounds < 2:
        parser.error('--rounds must be 2 or more, for a median and its spread')
    batch_size = args.batch_size or (cfg.get('train_dataloader') or {}).get('batch_size')
    if not cfg.get('model'):
        parser.error(f'{args.config} has no model')
    if batch_size is None:
        parser.error('the config does not tell the size of a batch; give --batch-size N')
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    enter_scope(cfg)
    model = build_model(cfg, device)
    batch = synthetic_batch(model, size, batch_size)
    steps = build_steps(cfg, model, args.methods, args.groups, args.precision, batch)
    console = Console(soft_wrap=True, highlight=False)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task('measuring', total=len(steps) * (args.rounds + 2))
        costs = measure(steps, batch_size, args.rounds, lambda: progress.advance(bar))
    where = torch.cuda.get_device_name(device) if device.type == 'cuda' else f'CPU, threads: {torch.get_num_threads()}'
    precision = args.precision or (cfg.get('optim_wrapper') or {}).get('precision', 'fp32')
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
    table = plain_table(
        title,
        ('method',),
        ('img/s', 's/batch', 'time', 'fwd', 'bwd', 'memory', 'ratio'),
        caption=f'time and ratio (of memory): in units of {first}; time as median (quartiles) over the rounds.\n'
        'fwd, bwd: forwards and backwards of a batch. memory: weights, state of the optimizer, peak of a step',
        caption_justify='left',
        collapse_padding=True,
    )
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
