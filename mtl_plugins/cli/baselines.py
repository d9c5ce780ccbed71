"""Single-task baselines from the command line: ``tools/analysis/single_task_baselines.py``."""

import os
import shlex
import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from mtl_plugins.config.datasets import check_folders
from mtl_plugins.config.files import names_package
from mtl_plugins.config.loading import load_config
from mtl_plugins.evaluation.baselines import make_baselines, save_baselines
from mtl_plugins.experiments.baselines import BaselineRun, plan_runs
from mtl_plugins.experiments.runs import execute
from mtl_plugins.runtime.hooks.environment import collect_environment, commit_of
from mtl_plugins.runtime.work_folder import naming

from .parsers import command

TOOL = 'tools/analysis/single_task_baselines.py'


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Train what is missing and write the file; returns the exit code."""
    cfg = load_config(args.config, args.cfg_options, data_root=args.data_root)
    check_folders(cfg)
    stem = Path(args.config).stem
    # Beside the config, but not into an installed package.
    beside = Path() if names_package(args.config) else Path(args.config).parent
    out = args.out or beside / f'{stem}.baselines.json'
    root = args.work_dir or Path('work_dirs', 'baselines', stem)
    tasks = args.tasks or list((cfg.get('model') or {}).get('heads') or {})
    with naming(root):
        return _train_and_save(cfg, tasks or [''], root, out, args)


def _train_and_save(cfg: Config, tasks: Sequence[str], root: Path, out: Path, args: Namespace) -> int:
    runs = plan_runs(cfg, tasks, args.seeds, root)
    console = Console(soft_wrap=True, highlight=False)
    todo = [run for run in runs if run.value() is None]
    console.print(f'{len(runs)} runs in {root}, {len(runs) - len(todo)} of them finished before', markup=False)
    execute(todo, args.jobs, console)
    console.print(summary(runs))
    failed = [run for run in runs if run.value() is None]
    for run in failed:
        console.print(f'FAILED {run.name}: {run.error}', markup=False)
    if failed:
        console.print(f'{out} is not written; start again after the repair, or leave tasks out with --tasks')
        return 1
    with naming(out, '--out'):
        save_baselines(_record(runs, args.config, args.words), out)
    console.print(f'baselines: {out}', markup=False)
    return 0


def summary(runs: Sequence[BaselineRun]) -> Table:
    """A table of all runs: value per seed and mean."""
    seeds = list(dict.fromkeys(run.seed for run in runs))
    table = Table('task', 'metric', *(f'seed {seed}' for seed in seeds), 'mean', title='Single-task baselines')
    for task, group in _by_task(runs).items():
        values = [run.value() for run in group]
        cells = ['failed' if value is None else f'{value:.4f}' for value in values]
        mean = '-' if None in values else f'{statistics.fmean(values):.4f}'
        table.add_row(task, group[0].metric, *cells, mean)
    return table


def _record(runs: Sequence[BaselineRun], config: str, words: Sequence[str]) -> dict[str, Any]:
    entries = {}
    for task, group in _by_task(runs).items():
        values = [run.value() for run in group]
        entries[task] = dict(
            metric=group[0].metric,
            value=statistics.fmean(values),
            higher_is_better=group[0].higher_is_better,
            values=values,
        )
    environment = collect_environment()
    record = make_baselines(
        entries,
        config=_relative(config),
        command=shlex.join(['python', TOOL, *map(_relative, words)]),
        commit=commit_of(environment),
        seeds=[run.seed for run in _by_task(runs)[runs[0].task]],
        versions=dict(mtl_plugins=environment['mtl_plugins'], python=environment['python'], **environment['packages']),
    )
    return {**record, 'iterations': runs[0].max_iters}


def _by_task(runs: Sequence[BaselineRun]) -> dict[str, list[BaselineRun]]:
    groups: dict[str, list[BaselineRun]] = {}
    for run in runs:
        groups.setdefault(run.task, []).append(run)
    return groups


def _relative(text: str) -> str:
    """Paths below the current folder without it: the file is to be shared."""
    return text.removeprefix(f'{Path.cwd()}{os.sep}')
