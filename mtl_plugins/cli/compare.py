"""Comparing methods from the command line: ``tools/analysis/compare_methods.py``."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from mtl_plugins.config.arguments import add_data_root, file_to_write, folder_to_write, positive, seeds
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.config.datasets import check_folders
from mtl_plugins.config.loading import load_config
from mtl_plugins.errors import UserError
from mtl_plugins.experiments.compare import (
    SINGLE,
    ComparisonRun,
    RecordStore,
    Variant,
    check_options,
    comparison_header,
    mean_groups,
    ordered,
    parse_variants,
    single_task_runs,
    variant_run,
)
from mtl_plugins.experiments.compare.records import Key
from mtl_plugins.experiments.runs import execute, terminating_like_ctrl_c
from mtl_plugins.runtime.hooks import EXIT_PREEMPTED
from mtl_plugins.runtime.work_folder import claim, naming

EPILOG = (
    'METHODS: keys of tools/train.py --list-methods, with options where they differ from the preset, and a name of '
    'their own if wanted: gd,stgu,stgu-random=stgu[grouper.type=Random],gd-equal=gd[passes=@stgu]. @stgu is the mean '
    'number of groups of stgu. Start the same command again after an interruption: runs in the results file are not '
    'repeated, the others go on from their newest checkpoint. The report (report.html, report.md, runs.csv, '
    'summary.csv) is of all runs in the results file; --report-only makes it anew, also from a results file alone: '
    'compare_methods.py --report-only --results FILE. exit codes: 0 done, 1 some run failed (the report says '
    'which), 2 wrong arguments, 75 interrupted'
)


def build_parser() -> ConfigArgumentParser:
    """The options of the tool."""
    parser = ConfigArgumentParser(
        prog='compare_methods',
        description='Train a config with several methods and seeds, beside single-task models of the same budget, and '
        'write one report.',
        epilog=EPILOG,
    )
    parser.add_argument('config', nargs='?', help='config file of a multi-task training')
    parser.add_argument('--methods', type=_variants, default=[], metavar='METHODS', help='what to compare')
    parser.add_argument('--seeds', type=seeds, metavar='0,1,2', help='runs per method (0)')
    parser.add_argument('--jobs', type=positive, default=1, metavar='N', help='trainings at a time (1)')
    parser.add_argument('--no-single-task', action='store_true', help='no single-task models: no delta_m')
    parser.add_argument(
        '--work-dir', type=folder_to_write, metavar='DIR', help='runs (work_dirs/compare/<config name>)'
    )
    parser.add_argument('--results', type=file_to_write, metavar='FILE', help='all results (<work dir>/results.json)')
    parser.add_argument('--out', type=folder_to_write, metavar='DIR', help='the report (<work dir>/report)')
    parser.add_argument('--report-only', action='store_true', help='train nothing, write the report of what is there')
    add_data_root(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv``, train what is missing and write the report; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(sys.argv[1:] if argv is None else list(argv))
    # What the report needs and does not find is told now, not after hours of training.
    import_module('mtl_plugins.experiments.report')
    console = Console(soft_wrap=True, highlight=False)
    root = args.work_dir or Path('work_dirs', 'compare', Path(args.config).stem if args.config else '')
    path = args.results or root / 'results.json'
    if args.report_only:
        if not (args.config or args.work_dir or args.results):
            parser.error('--report-only needs --results FILE, --work-dir DIR or CONFIG to know which results')
        _report(RecordStore(path, None), args, root, {}, console)
        return 0
    if not (args.config and args.methods):
        parser.error('CONFIG and --methods are needed to train (--report-only does without)')
    args.seeds = args.seeds or [0]
    cfg = load_config(args.config, args.cfg_options, data_root=args.data_root)
    with naming(root), claim(path.parent, f'{path.name}.lock', '--results'):
        return _train_and_report(cfg, path, root, args, console)


def _train_and_report(cfg: Config, path: Path, root: Path, args: argparse.Namespace, console: Console) -> int:
    check_folders(cfg)
    store = RecordStore(path, comparison_header(cfg, Path(args.config).name))
    check_options(cfg, args.methods, root, store)
    plan = functools.partial(_plan, cfg, args.methods, args.seeds, root, store, not args.no_single_task)
    failed: list[ComparisonRun] = []
    try:
        with terminating_like_ctrl_c():
            failed = train(plan, args.jobs, console)
    except KeyboardInterrupt:
        console.print('stopped; start the same command again to go on')
        return EXIT_PREEMPTED
    _report(store, args, root, {run.key: run.error for run in failed}, console)
    return 1 if failed else 0


def train(plan: Callable[[], list[ComparisonRun]], jobs: int, console: Console) -> list[ComparisonRun]:
    """Train what is missing, in as many rounds as references need; returns the runs that failed."""
    failed: list[ComparisonRun] = []
    while True:
        runs = plan()
        tried = {run.key for run in failed}
        todo = [run for run in runs if run.key not in tried and not run.finished()]
        console.print(f'{len(runs)} runs, {len(runs) - len(todo) - len(tried)} of them finished', markup=False)
        if not todo:
            return failed
        for run in todo:
            run.prepare()
        execute(todo, jobs, console)
        failed += [run for run in todo if run.error]


def _plan(
    cfg: Config, variants: Sequence[Variant], seeds: Sequence[int], root: Path, store: RecordStore, single: bool
) -> list[ComparisonRun]:
    """All runs that can be planned with what is finished, seed by seed."""
    groups = functools.partial(mean_groups, store.records, seeds=seeds)
    runs = []
    for seed in seeds:
        runs += single_task_runs(cfg, [seed], root, store) if single else []
        found = (variant_run(cfg, variant, seed, root, store, groups) for variant in ordered(variants))
        runs += [run for run in found if run is not None]
    return runs


def _report(
    store: RecordStore, args: argparse.Namespace, root: Path, errors: Mapping[Key, str], console: Console
) -> None:
    """Write the report of all runs of the store, unless there is none."""
    from mtl_plugins.experiments.report import Comparison, expected_keys, write_report

    if not any(name != SINGLE for name, _, _ in store.records):
        console.print('no method has a finished run: no report')
        return
    single = not args.no_single_task if args.methods else any(name == SINGLE for name, _, _ in store.records)
    names = [variant.name for variant in args.methods]
    wanted = expected_keys(store.records, list(store.header['tasks']), names, args.seeds, single)
    out = args.out or (args.work_dir or (root if args.config else store.path.parent)) / 'report'
    page = write_report(Comparison(store.header, store.records, wanted, errors), out)
    console.print(f'report: {page}', markup=False)


def _variants(text: str) -> list[Variant]:
    try:
        return parse_variants(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
