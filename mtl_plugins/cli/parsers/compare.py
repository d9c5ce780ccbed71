"""The options of ``compare``; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mtl_plugins.config.arguments import add_shared, file_to_write, positive_number, seeds, share
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.errors import UserError

if TYPE_CHECKING:
    from mtl_plugins.experiments.compare import Variant

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
    'summary.csv, pairs.csv) is of all runs in the results file; --report-only makes it anew, also from a results '
    'file alone: compare_methods.py --report-only --results FILE. exit codes: 0 done, 1 some run failed (the report '
    'says which), 2 wrong arguments, 75 interrupted'
)


def build_parser() -> ConfigArgumentParser:
    """The options of the tool."""
    parser = ConfigArgumentParser(
        prog='compare_methods',
        description='Train a config with several methods and seeds, beside single-task models of the same budget, and '
        'write one report.',
        epilog=EPILOG,
    )
    parser.add_argument(
        'config',
        nargs='*',
        help='config file of a multi-task training; of several, one report with the means over them',
    )
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
    parser.add_argument('--no-single-task', action='store_true', help='no single-task models: no delta_m')
    parser.add_argument(
        '--results', type=_files, metavar='FILE', help='all results (<work dir>/results.json); of several configs: A,B'
    )
    parser.add_argument(
        '--tell',
        type=positive_number,
        default=1.0,
        metavar='POINTS',
        help='the report says how many more seeds would tell a difference of so many points (1)',
    )
    parser.add_argument('--report-only', action='store_true', help='train nothing, write the report of what is there')
    add_shared(
        parser,
        'jobs',
        'data_root',
        work_dir='runs (work_dirs/compare/<config name>)',
        out='the report (<work dir>/report)',
    )
    return parser


def _files(text: str) -> list[Path]:
    return [file_to_write(part) for part in text.split(',')]


def _grid(text: str) -> tuple[str, list]:
    from mtl_plugins.experiments.compare import parse_grid

    try:
        return parse_grid(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _variants(text: str) -> list[Variant]:
    from mtl_plugins.experiments.compare import parse_variants

    try:
        return parse_variants(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
