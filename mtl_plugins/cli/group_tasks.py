"""Which tasks to train together, from the command line: ``tools/analysis/group_tasks.py``."""

import json
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console

from mtl_plugins.config.cfg_options import OPTION
from mtl_plugins.config.loading import load_config, set_method
from mtl_plugins.errors import UserError
from mtl_plugins.experiments.task_groups import Gains, measure, parameters_of, serving_line
from mtl_plugins.methods.facts import OBJECTIVES
from mtl_plugins.methods.task_groups import LARGEST, MOST, TaskGrouping
from mtl_plugins.runtime.checkpoints import safe_loading
from mtl_plugins.runtime.console import keep_console_short
from mtl_plugins.runtime.work_folder import claim
from mtl_plugins.visualization.task_gains import draw_gain_maps, draw_task_groups

from .parsers import command
from .train import resume_newest


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Measure, solve, print and write; returns the exit code."""
    _check(parser, args)
    keep_console_short()
    console = Console(soft_wrap=True, highlight=False)
    out = args.out or Path('work_dirs', 'group_tasks', Path(args.config).stem)
    cfg = load_config(args.config, args.cfg_options, work_dir=str(out), data_root=args.data_root, tasks=args.tasks)
    options = dict(
        num_groups=args.exactly,
        max_groups=args.groups,
        overlap=args.overlap,
        single=args.alone,
        tolerance=args.tolerance,
    )
    path = args.maps
    if path is None:
        kinds = args.measure or ['tag', 'proximal']
        _try(cfg, args.by or kinds[0], options)
        with safe_loading(args.trust_checkpoint), claim(out):
            training = cfg.copy()
            if args.resume:
                resume_newest(training)
            path = measure(training, kinds, args.every or 10, args.checkpoint, args.batches or 50)
    gains = Gains.read(path)
    if args.maps and args.tasks:
        gains = gains.of(args.tasks)
    heads = _heads(cfg) or gains.tasks
    if set(heads) != set(gains.tasks):
        raise UserError(
            f'{path} holds gains of {", ".join(gains.tasks)}, but {args.config} trains {", ".join(heads)}: give the '
            'config that was measured, or --tasks with what both have'
        )
    correlations = gains.correlations()
    out.mkdir(parents=True, exist_ok=True)
    maps = {name: each.numpy() for name, each in gains.maps.items()}
    draw_gain_maps(maps, gains.tasks, correlations, out / 'gains.png')
    for (one, other), value in correlations.items():
        console.print(f'rank correlation of {one} and {other}: {value:+.2f}')
    console.print(str(out / 'gains.png'), markup=False)
    kind = args.by or next(iter(gains.maps))
    found = gains.solve(kind, **options)
    same = ['--data-root', args.data_root] if args.data_root else []
    same += [OPTION, *args.cfg_words] if args.cfg_words else []
    _report(cfg, args, gains, kind, found, out, console, ''.join(f' {shlex.quote(word)}' for word in same))
    return 0


def _check(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse options that say nothing here, or contradict each other."""
    if args.maps and args.checkpoint:
        parser.error('CHECKPOINT asks for gains at its weights, --maps for those of a file: give one of them')
    given = '--maps' if args.maps else 'CHECKPOINT' if args.checkpoint else 'a training'
    for name, of_use in (
        ('measure', ('CHECKPOINT', 'a training')),
        ('every', ('a training',)),
        ('batches', ('CHECKPOINT',)),
        ('resume', ('a training',)),
    ):
        if getattr(args, name) and given not in of_use:
            parser.error(f'--{name} has no effect with {given}, only with {" or ".join(of_use)}')
    measured = args.measure or ['tag', 'proximal']
    if args.by and not args.maps and args.by not in measured:
        parser.error(f'--by {args.by} needs --measure {",".join([*measured, args.by])}')


def _try(cfg: Config, kind: str, options: Mapping[str, Any]) -> None:
    """Refuse what would be refused after the measuring, by making groups of a map of zeros."""
    tasks = _heads(cfg) or list(map(str, range(max(2, options['num_groups'] or 0))))
    if len(tasks) <= LARGEST:  # of more there are maps, if no groups
        Gains(tuple(tasks), {kind: torch.zeros(len(tasks), len(tasks))}, {}).solve(kind, **options, most=1)


def _heads(cfg: Config) -> list[str]:
    return list((cfg.get('model') or {}).get('heads') or ())


def _report(
    cfg: Config,
    args: Namespace,
    gains: Gains,
    kind: str,
    found: list[TaskGrouping],
    out: Path,
    console: Console,
    same: str,
) -> None:
    groupings = [[[gains.tasks[task] for task in group] for group in each.groups] for each in found]
    console.print(f'groups by {OBJECTIVES[kind]} on the map {kind!r} of {gains.settings.get("measured", "?")} batches:')
    for groups, each in zip(groupings, found):
        console.print(f'  {each.score:+.4g}  ' + ' | '.join(' + '.join(group) for group in groups), markup=False)
    if len(found) > 1:
        more = f'{len(found)} or more' if len(found) == MOST else len(found)
        console.print(f'  ({more} groupings within {args.tolerance:g}; what follows is about the first)')
    groups = groupings[0]
    console.print(serving_line(groups, parameters_of(cfg)))
    written = [out / 'groups.json', out / 'groups.png']
    entry: dict[str, Any] = dict(
        tasks=list(gains.tasks),
        by=kind,
        objective=OBJECTIVES[kind],
        overlap=args.overlap,
        groupings=[dict(groups=names_of, score=each.score) for names_of, each in zip(groupings, found)],
        rank_correlations={f'{one}|{other}': value for (one, other), value in gains.correlations().items()},
        settings=gains.settings,
    )
    written[0].write_text(json.dumps(entry, indent=1) + '\n', encoding='utf-8')
    draw_task_groups(
        groups, gains.maps[kind].numpy(), gains.tasks, f'Groups by {OBJECTIVES[kind]} ({kind})', written[1]
    )
    if sorted(task for group in groups for task in group) == sorted(gains.tasks):
        written.append(_write_stgu(cfg, groups, out))
        console.print(
            f'one network, the groups taking turns (STGU): python tools/train.py {shlex.quote(str(written[-1]))}',
            markup=False,
        )
    else:
        console.print('one network whose groups take turns (STGU) is left out: there each task is in one group only')
    if _heads(cfg):
        console.print('one network per group:')
        for number, group in enumerate(groups, start=1):
            folder = shlex.quote(str(out / f'group{number}'))
            command = (
                f'python tools/train.py {shlex.quote(args.config)} --tasks {",".join(group)} --work-dir {folder}{same}'
            )
            console.print(f'  {command}', markup=False)
    else:
        console.print('one network per group takes a config for each: the model has no heads that --tasks could choose')
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
