"""``make demo``: STGU on the embedded rooms, from nothing to a table and pictures in a few minutes."""

import json
import math
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from mtl_plugins.config import build_runner
from mtl_plugins.config.loading import configs_root, load_config
from mtl_plugins.evaluation import delta_m, load_baselines, relative_changes
from mtl_plugins.evaluation.result_table import UNKNOWN, format_value, plain_table
from mtl_plugins.runtime.checkpoints import find_newest_loadable, safe_loading, write_atomically
from mtl_plugins.runtime.console import keep_console_short
from mtl_plugins.runtime.hooks.metrics_file import FILE_NAME, read_metrics
from mtl_plugins.task_specs import get_task_specs
from mtl_plugins.utils.json_files import read_json

from .parsers import command
from .train import claim_work_dir

CONFIG = 'rooms/stgu_resnet-micro_8b-demo_rooms-96.py'
UNTRAINED = 'untrained.json'


@command
@safe_loading()
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Evaluate the untrained model, train it, and say what came out; returns the exit code."""
    if not args.verbose:
        keep_console_short()
    begin = time.time()
    cfg = load_config(configs_root() / CONFIG, work_dir=args.work_dir)
    with claim_work_dir(cfg):
        _train_and_tell(cfg, begin)
    return 0


def _train_and_tell(cfg: Config, begin: float) -> None:
    work_dir = Path(cfg.work_dir)
    checkpoint = _unfinished(work_dir, cfg.train_cfg.max_iters)
    if checkpoint is not None:
        print(f'going on from {checkpoint}')
        cfg.resume, cfg.load_from = True, checkpoint
    runner = build_runner(cfg)
    if checkpoint is None:
        untrained = {name: float(value) for name, value in runner.val().items()}
        write_atomically(json.dumps(untrained).encode(), work_dir / UNTRAINED)
    runner.train()
    untrained = read_json(work_dir / UNTRAINED)
    trained = read_metrics(work_dir / FILE_NAME)[-1]['metrics']
    baselines = cfg.val_evaluator.get('baselines')
    Console().print(summary(cfg.tasks, untrained, trained, load_baselines(baselines)['tasks'] if baselines else {}))
    panels = sorted((work_dir / 'panels').glob('iter_*'))[-1]
    print(f'affinity between the tasks   {work_dir}/affinity.png')
    print(f'groups over time             {work_dir}/groups.png')
    print(f'predictions                  {panels}/')
    print(f'untrained, for comparison    {work_dir}/panels/iter_000000/')
    print(f'{(time.time() - begin) / 60:.1f} minutes. Next: the quick start in README.md')


def summary(
    tasks: Sequence[str],
    untrained: Mapping[str, float],
    trained: Mapping[str, float | None],
    baselines: Mapping[str, Mapping[str, Any]],
) -> Table:
    """The table of the demo: headline metric of each task untrained, after STGU, and of its single-task model."""
    specs = get_task_specs(tasks)
    values = {spec.key: _number(trained[spec.headline_key]) for spec in specs}
    single = {task: entry['value'] for task, entry in baselines.items() if task in values}
    directions = {spec.key: spec.higher_is_better for spec in specs}
    table = plain_table(
        'Rooms, validation set',
        ('Task', 'Metric'),
        ('Untrained', 'STGU', 'Single', 'Change'),
        title_style='bold',
        collapse_padding=True,
        caption='Single: one model per task, same schedule. Change: STGU to it, + is better',
        caption_justify='left',
    )
    changes = relative_changes(values, single, directions) if single else {}
    for spec in specs:
        unit = f' ({spec.unit})' if spec.unit else ''
        change = changes.get(spec.key, float('nan'))
        table.add_row(
            spec.title,
            f'{spec.headline}{unit} {"↑" if spec.higher_is_better else "↓"}',
            format_value(_number(untrained[spec.headline_key])),
            format_value(values[spec.key]),
            format_value(single[spec.key]) if spec.key in single else UNKNOWN,
            UNKNOWN if math.isnan(change) else f'{change:+.1f} %',
            end_section=spec is specs[-1],
        )
    if single:
        table.add_row('Δm', 'mean change', '', '', '', f'{delta_m(values, single, directions):+.2f} %', style='bold')
    return table


def _number(value: float | None) -> float:
    return float('nan') if value is None else float(value)


def _unfinished(work_dir: Path, max_iters: int) -> str | None:
    """The checkpoint of a demo that was interrupted, if there is one."""
    checkpoint = find_newest_loadable(work_dir) if (work_dir / UNTRAINED).is_file() else None
    return None if checkpoint is None or checkpoint.endswith(f'iter_{max_iters}.pth') else checkpoint
