"""The options of ``group-tasks``; imports nothing heavy."""

import argparse
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtl_plugins.config.arguments import add_shared, names, positive, positive_number
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.methods.facts import OBJECTIVES as KINDS

EPILOG = (
    'Without CHECKPOINT the config is trained, and gains are measured every N iterations beside the training, which '
    'stays as it is; with it they are measured at its weights on a number of batches. examples: '
    'python tools/analysis/group_tasks.py configs/rooms/gd_vit-micro_8b-2k_rooms-96.py --measure tag,ptg --groups 3; '
    'python tools/analysis/group_tasks.py configs/rooms/gd_vit-micro_8b-2k_rooms-96.py --maps OUT/task_gains.json '
    '--by ptg'
)


def build_parser() -> ConfigArgumentParser:
    """The options of the tool."""
    parser = ConfigArgumentParser(
        prog='group-tasks',
        description="Measure which tasks help each other, make groups of them that are best by TAG's or PTG's "
        'objective, and say how to train and what it costs to serve them.',
        epilog=EPILOG,
    )
    parser.add_argument('config', help='config file of a multi-task training')
    parser.add_argument('checkpoint', nargs='?', help='measure at these weights instead of during a training')
    parser.add_argument('--maps', type=Path, metavar='FILE', help='a task_gains.json: measure nothing')
    parser.add_argument(
        '--measure',
        type=_kinds,
        metavar='A,B',
        help=f'some of {", ".join(KINDS)} (tag,proximal)',
    )
    parser.add_argument('--every', type=positive, metavar='N', help='iterations between measurements (10)')
    parser.add_argument('--batches', type=positive, metavar='N', help='batches at a checkpoint (50)')
    parser.add_argument(
        '--resume', action='store_true', help='go on with a measuring training that was stopped in --out, if any was'
    )
    parser.add_argument('--by', choices=KINDS, help='the map to group by (the first that was measured)')
    number = parser.add_mutually_exclusive_group()
    number.add_argument('--groups', type=positive, metavar='M', help='at most so many groups (3, or fewer tasks)')
    number.add_argument(
        '--exactly', type=positive, metavar='M', help='so many groups; for TAG without --overlap only, for PTG always'
    )
    parser.add_argument('--overlap', action='store_true', help='a task may be in several groups')
    parser.add_argument(
        '--alone',
        type=_score,
        metavar='X',
        help="TAG's score of a task that is alone in its group (-1e6: nothing is worse; 0: better than companions that "
        'harm it)',
    )
    parser.add_argument(
        '--tolerance',
        type=positive_number,
        default=1e-9,
        metavar='X',
        help='show groupings that are worse by up to this, too (1e-9)',
    )
    add_shared(
        parser,
        'data_root',
        'trust',
        out='results (work_dirs/group_tasks/<config>)',
        tasks='only these tasks of the config, or of --maps (all)',
    )
    return parser


def _score(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise argparse.ArgumentTypeError(f'expected a number, but got {text!r}')


def _kinds(value: Any) -> list[str]:
    chosen = names(value)
    wrong = [kind for kind in chosen if kind not in KINDS]
    if wrong:
        raise argparse.ArgumentTypeError(f'there is no {wrong[0]!r} to measure; there are {", ".join(KINDS)}')
    return chosen
