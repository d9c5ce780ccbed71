"""Which tasks to train together, from the command line: ``tools/analysis/group_tasks.py``."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console

from mtl_plugins.config.loading import load_config, set_method
from mtl_plugins.experiments.task_groups import Gains, measure, parameters_of, serving_line
from mtl_plugins.methods.facts import OBJECTIVES
from mtl_plugins.methods.task_groups import TaskGrouping
from mtl_plugins.runtime.checkpoints import safe_loading
from mtl_plugins.runtime.work_folder import claim
from mtl_plugins.visualization.task_gains import draw_gain_maps, draw_task_groups

from .parsers.group_tasks import build_parser
from .train import resume_newest


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv``, measure, solve, print and write; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.resume and (args.maps or args.checkpoint):
        parser.error(f'--resume goes on with a training, but {"--maps" if args.maps else "CHECKPOINT"} asks for none')
    console = Console(soft_wrap=True, highlight=False)
    out = args.out or Path('work_dirs', 'group_tasks', Path(args.config).stem)
    cfg = load_config(args.config, args.cfg_options, work_dir=str(out), data_root=args.data_root, tasks=args.tasks)
    path = args.maps
    if path is None:
        with safe_loading(args.trust_checkpoint), claim(out):
            if args.resume:
                resume_newest(cfg)
            path = measure(cfg.copy(), args.measure, args.every, args.checkpoint, args.batches)
    gains = Gains.read(path)
    kind = args.by or next(iter(gains.maps))
    found = gains.solve(
        kind,
        max_groups=min(args.groups or 3, len(gains.tasks)),
        overlap=args.overlap,
        tolerance=args.tolerance,
    )
    _report(cfg, args, gains, kind, found, out, console)
    return 0


def _report(
    cfg: Config,
    args: argparse.Namespace,
    gains: Gains,
    kind: str,
    found: list[TaskGrouping],
    out: Path,
    console: Console,
) -> None:
    groupings = [[[gains.tasks[task] for task in group] for group in each.groups] for each in found]
    console.print(f'groups by {OBJECTIVES[kind]} on the map {kind!r} of {gains.settings.get("measured", "?")} batches:')
    for groups, each in zip(groupings, found):
        console.print(f'  {each.score:+.4g}  ' + ' | '.join(' + '.join(group) for group in groups), markup=False)
    if len(found) > 1:
        console.print(f'  ({len(found)} groupings within {args.tolerance:g}; what follows is about the first)')
    groups = groupings[0]
    correlations = gains.correlations()
    for (one, other), value in correlations.items():
        console.print(f'rank correlation of {one} and {other}: {value:+.2f}')
    console.print(
        serving_line(groups, parameters_of(cfg) if set(gains.tasks) <= set(cfg.model.get('heads') or ()) else None)
    )
    out.mkdir(parents=True, exist_ok=True)
    written = [out / 'groups.json', out / 'groups.png', out / 'gains.png']
    entry: dict[str, Any] = dict(
        tasks=list(gains.tasks),
        by=kind,
        objective=OBJECTIVES[kind],
        overlap=args.overlap,
        groupings=[dict(groups=names_of, score=each.score) for names_of, each in zip(groupings, found)],
        rank_correlations={f'{one}|{other}': value for (one, other), value in correlations.items()},
        settings=gains.settings,
    )
    written[0].write_text(json.dumps(entry, indent=1) + '\n', encoding='utf-8')
    draw_task_groups(
        groups, gains.maps[kind].numpy(), gains.tasks, f'Groups by {OBJECTIVES[kind]} ({kind})', written[1]
    )
    draw_gain_maps({name: each.numpy() for name, each in gains.maps.items()}, gains.tasks, correlations, written[2])
    if sorted(task for group in groups for task in group) == sorted(gains.tasks):
        written.append(_write_stgu(cfg, groups, out))
        console.print(
            f'one network, the groups taking turns (STGU): python tools/train.py {shlex.quote(str(written[-1]))}'
        )
    console.print('one network per group:')
    for number, group in enumerate(groups, start=1):
        folder = shlex.quote(str(out / f'group{number}'))
        console.print(
            f'  python tools/train.py {shlex.quote(args.config)} --tasks {",".join(group)} --work-dir {folder}',
            markup=False,
        )
    for each in written:
        console.print(str(each), markup=False)


def _write_stgu(cfg: Config, groups: list[list[str]], out: Path) -> Path:
    cfg = Config(cfg.to_dict())
    set_method(cfg, 'stgu')
    cfg.optim_wrapper.update(grouper=dict(type='Fixed', groups=groups), warmup_iters=0)
    cfg.work_dir = str(out / 'stgu_fixed')
    path = out / 'stgu_fixed.py'
    cfg.dump(str(path))
    return path
