"""Comparing methods from the command line: ``tools/analysis/compare_methods.py``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from mtl_plugins.config.arguments import add_data_root, file_to_write, folder_to_write, positive, seeds, share
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.config.datasets import check_folders
from mtl_plugins.config.loading import load_config
from mtl_plugins.errors import UserError
from mtl_plugins.experiments.compare import (
    SINGLE,
    Choice,
    ComparisonRun,
    Key,
    Plan,
    RecordStore,
    Tuning,
    Variant,
    choices,
    comparison_header,
    parse_grid,
    parse_variants,
    view,
)
from mtl_plugins.experiments.runs import execute, terminating_like_ctrl_c
from mtl_plugins.runtime.hooks import EXIT_PREEMPTED
from mtl_plugins.runtime.work_folder import claim, naming

EPILOG = (
    'METHODS: keys of tools/train.py --list-methods, with options where they differ from the preset, and a name of '
    'their own if wanted: gd,stgu,stgu-random=stgu[grouper.type=Random]. Equal compute: gd[compute=@stgu] is trained '
    'longer, with its schedule stretched, until it has taken as many forwards and backwards as stgu (a backward counts '
    'as two forwards), gd[time=@stgu] until it has taken as many seconds, and gd[passes=@stgu] makes as many passes '
    'over each batch as stgu has groups on average; 2*@stgu is twice that, compute=2 twice ordinary training. '
    '--tune: all variants, and single-task models, are trained with each value on a part of the training set and '
    'scored on the rest of it, which is held out; then with all seeds on the whole training set at the value chosen '
    'for each, and at one shared value, which is the choice of the first of METHODS. A variant that gives the setting '
    'itself is not tuned. Start the same command again after an interruption: runs in the results file are not '
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
    parser.add_argument(
        '--tune',
        type=_grid,
        action='append',
        default=[],
        metavar='SETTING=A,B,C',
        help='choose an entry of optim_wrapper for each method: optimizer.lr=5e-4,1e-3,2e-3; may be repeated',
    )
    parser.add_argument('--tune-seeds', type=seeds, default=[0], metavar='0,1', help='runs per value that choose (0)')
    parser.add_argument(
        '--tune-on', type=share, default=0.1, metavar='SHARE', help='share of the training set held out for it (0.1)'
    )
    parser.add_argument('--no-shared', action='store_true', help='with --tune: no runs at one shared value')
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
        _report(RecordStore(path, None), args, root, console)
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
    store.session = dict(started=time.strftime('%Y-%m-%d %H:%M:%S'), jobs=args.jobs)
    plan = Plan(cfg, args.methods, args.seeds, root, store, not args.no_single_task, _tuning(args))
    try:
        with terminating_like_ctrl_c():
            failed = train(plan, args.jobs, console)
    except KeyboardInterrupt:
        console.print('stopped; start the same command again to go on')
        return EXIT_PREEMPTED
    _report(store, args, root, console)
    return 1 if failed else 0


def _tuning(args: argparse.Namespace) -> Tuning | None:
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
        execute(todo, jobs, console)
        failed |= {run.key: run for run in todo if run.error}


def choice_line(subject: tuple[str, str | None], choice: Choice) -> str:
    """What was chosen for a variant, and whether the grid should be wider."""
    name, task = subject
    border = f' ({" and ".join(choice.border)} at the border of the grid: a wider one may be better)'
    what = f'{choice.at}{border * bool(choice.border)}' if choice.at else 'nothing: no run gave a result'
    return f'chosen for {name}{f" ({task})" if task else ""}: {what}'


def _report(store: RecordStore, args: argparse.Namespace, root: Path, console: Console) -> None:
    """Write the report of all runs of the store, unless there is none."""
    from mtl_plugins.experiments.report import Comparison, expected_keys, write_report

    records, failures = view(store)
    if not any(name != SINGLE for name, _, _ in records):
        console.print('no method has a finished run: no report')
        return
    single = not args.no_single_task if args.methods else any(name == SINGLE for name, _, _ in records)
    names = [variant.name for variant in args.methods]
    wanted = expected_keys(records, list(store.header['tasks']), names, args.seeds, single)
    out = args.out or (args.work_dir or (root if args.config else store.path.parent)) / 'report'
    page = write_report(Comparison(store.header, records, wanted, failures), out)
    console.print(f'report: {page}', markup=False)


def _grid(text: str) -> tuple[str, list]:
    try:
        return parse_grid(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _variants(text: str) -> list[Variant]:
    try:
        return parse_variants(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
