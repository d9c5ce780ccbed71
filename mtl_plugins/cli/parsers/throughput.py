"""The options of ``throughput``; imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mtl_plugins.config.arguments import add_shared, counts, pair, positive, usable_device
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.errors import UserError

if TYPE_CHECKING:
    from mtl_plugins.experiments.compare import Variant

EPILOG = (
    'METHODS: keys of tools/train.py --list-methods, with options where they differ from the preset: '
    'gd,cagrad,mgda-slow=mgda[level=parameters]. example: '
    'python tools/analysis/throughput.py configs/rooms/gd_vit-micro_8b-2k_rooms-96.py --methods gd,stgu,pcgrad,famo'
)


def build_parser() -> ConfigArgumentParser:
    """The options of the tool."""
    parser = ConfigArgumentParser(
        prog='throughput',
        description='Images per second, forwards and backwards, and peak memory of methods on the model of a config, '
        'with random images and labels of its shapes: no data is needed. The steps of all methods are timed in turn, '
        'so that the ratios hold on a busy machine. Times are those of the step, without loading data.',
        epilog=EPILOG,
    )
    parser.add_argument('config', help='config file of a multi-task training')
    parser.add_argument('--methods', type=_variants, required=True, metavar='METHODS', help='what to compare')
    parser.add_argument('--batch-size', type=positive, metavar='N', help="images per batch (the config's)")
    parser.add_argument('--size', type=pair, metavar='H,W', help="size of the images (the config's)")
    parser.add_argument(
        '--groups',
        type=counts,
        default=[2],
        metavar='M,...',
        help='numbers of groups that STGU is measured with, since made-up images have no affinity to follow (2)',
    )
    parser.add_argument('--rounds', type=positive, default=10, metavar='N', help='timed steps per method (10)')
    parser.add_argument('--device', type=usable_device, help='cpu, cuda or cuda:N (cuda if there is one)')
    add_shared(
        parser,
        'precision',
        tasks='only these tasks of the config (all)',
        out='result and picture (work_dirs/throughput/<config name>)',
    )
    return parser


def _variants(text: str) -> list[Variant]:
    from mtl_plugins.experiments.compare import LENGTHS, parse_variants

    try:
        variants = parse_variants(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    for variant in variants:
        lengths = [name for name in LENGTHS if name in variant.options]
        if lengths:
            raise argparse.ArgumentTypeError(
                f'{variant.name}: {lengths[0]} is a length of training, on which no step depends; leave it out'
            )
    referring = [variant.name for variant in variants if variant.references]
    if referring:
        raise argparse.ArgumentTypeError(f'{referring[0]}: references need finished runs; give a number instead')
    return variants
