"""Comparing methods from the command line: ``tools/analysis/compare_methods.py``."""

from __future__ import annotations

import contextlib
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.config import Config
from rich.console import Console

from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.config.datasets import check_folders
from mtl_plugins.config.loading import load_config
from mtl_plugins.experiments.compare import (
    SINGLE,
    Choice,
    ComparisonRun,
    Key,
    Plan,
    RecordStore,
    Tuning,
    choices,
    comparison_header,
    shared_settings,
    view,
)
from mtl_plugins.experiments.runs import execute
from mtl_plugins.runtime.work_folder import claim, naming

from .parsers import command

if TYPE_CHECKING:
    from mtl_plugins.experiments.report import Setting


@command
def main(parser: ConfigArgumentParser, args: Namespace) -> int:
    """Train what is missing and write the report; returns the exit code."""
    # What the report needs and does not find is told now, not after hours of training.
    import_module('mtl_plugins.experiments.report')
    parser.refuse_idle(args, args.tune, '--tune', '--tune-on', '--tune-seeds', '--no-shared')
    console = Console(soft_wrap=True, highlight=False)
    roots = _roots(parser, args)
    paths = args.results or [root / 'results.json' for root in roots]
    if args.report_only:
        if not (args.config or args.work_dir or args.results):
            parser.error('--report-only needs --results FILE, --work-dir DIR or CONFIG to know which results')
        _report([RecordStore(path, None) for path in paths], args, console)
        return 0
    if not (args.config and args.methods):
        parser.error('CONFIG and --methods are needed to train (--report-only does without)')
    if len(paths) != len(args.config):
        parser.error(f'--results needs one file for each of the {len(args.config)} configs, but has {len(paths)}')
    args.seeds = args.seeds or [0]
    cfgs = [load_config(config, args.cfg_options, data_root=args.data_root) for config in args.config]
    with contextlib.ExitStack() as held:
        for root, path in zip(roots, paths):
            held.enter_context(naming(root))
            held.enter_context(claim(path.parent, f'{path.name}.lock', '--results'))
        return _train_and_report(cfgs, paths, roots, args, console)


def _roots(parser: ArgumentParser, args: Namespace) -> list[Path]:
    """The folder of the runs of each config; without one, that of the results."""
    stems = [Path(config).stem for config in args.config]
    if len(set(stems)) < len(stems):
        parser.error(f'the configs need different names, but are {", ".join(stems)}: their runs have folders by these')
    if args.work_dir and len(stems) > 1:
        return [args.work_dir / stem for stem in stems]
    return [args.work_dir or Path('work_dirs', 'compare', stem) for stem in stems or ['']]


def _train_and_report(
    cfgs: Sequence[Config], paths: Sequence[Path], roots: Sequence[Path], args: Namespace, console: Console
) -> int:
    stores, plans = [], []
    for cfg, config, path, root in zip(cfgs, args.config, paths, roots):
        check_folders(cfg)
        store = RecordStore(path, comparison_header(cfg, Path(config).name))
        store.session = dict(started=time.strftime('%Y-%m-%d %H:%M:%S'), jobs=args.jobs)
        stores.append(store)
        plans.append(Plan(cfg, args.methods, args.seeds, root, store, not args.no_single_task, _tuning(args)))
    failed = []
    for plan in plans:
        if len(plans) > 1:
            console.print(plan.store.header['config'], markup=False)
        failed += train(plan, args.jobs, console)
    _report(stores, args, console)
    return 1 if failed else 0


def _tuning(args: Namespace) -> Tuning | None:
    if not args.tune:
        return None
    shared = None if args.no_shared else args.methods[0].name
    return Tuning(dict(args.tune), args.tune_on, args.tune_seeds, shared)


def train(plan: Plan, jobs: int, console: Console) -> list[ComparisonRun]:
    """Train what is missing, in as many rounds as choices and references need; returns the runs that failed."""
    failed: dict[Key, ComparisonRun] = {}
    told: set[tuple[str, str | None]] = set()
    while True:
        runs = plan.runs(failed.keys())
        for subject, choice in choices(plan.store).items():
            if subject not in told and any(run.key[:3:2] == subject and not run.key.tuning for run in runs):
                told.add(subject)
                console.print(choice_line(subject, choice), markup=False)
        todo = [run for run in runs if run.key not in failed and not run.finished()]
        done = len(runs) - len(todo) - sum(run.key in failed for run in runs)
        console.print(f'{len(runs)} runs, {done} of them finished', markup=False)
        if not todo:
            return list(failed.values())
        for run in todo:
            run.prepare()
        failed |= {run.key: run for run in execute(todo, jobs, console)}


def choice_line(subject: tuple[str, str | None], choice: Choice) -> str:
    """What was chosen for a variant, and whether the grid should be wider."""
    name, task = subject
    border = f' ({" and ".join(choice.border)} at the border of the grid: a wider one may be better)'
    what = f'{choice.at}{border * bool(choice.border)}' if choice.at else 'nothing: no run gave a result'
    return f'chosen for {name}{f" ({task})" if task else ""}: {what}'


def _report(stores: Sequence[RecordStore], args: Namespace, console: Console) -> None:
    """Write the report of all runs of the stores, unless there is none."""
    from mtl_plugins.experiments.report import write_report
    from mtl_plugins.experiments.report.tables import starts

    settings = {}
    for store in stores:
        if all(name == SINGLE for name, _, _ in view(store)[0]):
            console.print(f'no method has a finished run in {store.path}: no report', markup=False)
            return
        names = [Path(other.header['config']).stem for other in stores]
        name = Path(store.header['config']).stem
        settings[name if names.count(name) == 1 else str(store.path)] = _setting(store, args)
    for name, setting in settings.items():
        if setting.comparison.differing:
            console.print(f'{name}: runs of one seed {starts(setting.comparison)}', markup=False)
    out = args.out or _report_folder(stores, args) / 'report'
    page = write_report(settings, out)
    console.print(f'report: {page}', markup=False)


def _report_folder(stores: Sequence[RecordStore], args: Namespace) -> Path:
    """Where the folder of the report goes."""
    if args.work_dir or not args.config:
        return args.work_dir or stores[0].path.parent
    return Path('work_dirs', 'compare', '+'.join(Path(config).stem for config in args.config))


def _setting(store: RecordStore, args: Namespace) -> Setting:
    """What the report shows of a results file."""
    from mtl_plugins.experiments.report import Comparison, Setting, expected_keys, shared_tables, tuning_tables

    records, failures = view(store)
    single = not args.no_single_task if args.methods else any(name == SINGLE for name, _, _ in records)
    names = [variant.name for variant in args.methods]
    wanted = expected_keys(records, list(store.header['tasks']), names, args.seeds, single)
    comparison = Comparison(store.header, records, wanted, failures, args.tell)
    common, shared = shared_settings(store), []
    alike, failures = view(store, shared=True)
    if common and any(name != SINGLE for name, _, _ in alike):
        shared = shared_tables(Comparison(store.header, alike, (), failures, args.tell), common)
    return Setting(comparison, tuning_tables(store), shared)
