"""The command ``prepare-nyuv2``: NYUD-v2 from the file that anyone can download."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtl_plugins.config.arguments import positive
from mtl_plugins.datasets.nyud.prepare import NOTE, prepare_nyuv2
from mtl_plugins.datasets.nyud.sources import open_source


def build_parser() -> argparse.ArgumentParser:
    """The options of ``prepare-nyuv2``."""
    parser = argparse.ArgumentParser(
        prog='prepare-nyuv2',
        description='Make the folder NYUDv2 (40 classes, depth, normals, edges; official split) out of '
        'nyu_depth_v2_labeled.mat, or out of a plain folder with images/, depth/ and labels40/. Normals are fitted to '
        'depth, edges are the borders of labels. An interrupted run goes on where it stopped.',
        epilog='Example: prepare-nyuv2 nyu_depth_v2_labeled.mat data/NYUDv2 -j 4',
    )
    parser.add_argument('source', metavar='SOURCE', type=Path, help='nyu_depth_v2_labeled.mat, or a plain folder')
    parser.add_argument('out', metavar='OUT', type=Path, help='the folder to become the dataset')
    parser.add_argument('-j', '--jobs', type=positive, default=2, metavar='N', help='processes (default: %(default)s)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)
    source = open_source(args.source)
    provenance = prepare_nyuv2(source, args.out, args.jobs)
    counts = ', '.join(f'{split} {count}' for split, count in provenance['counts'].items())
    height, width = provenance['size']
    print(f'{args.out}: {counts} images of {height} x {width}\nnote: {NOTE}')
    if sum(provenance['counts'].values()) != 1449:
        print(f'note: the source holds {sum(provenance["counts"].values())} of the 1449 labelled images')
    print(f'check it: python tools/datasets/verify.py nyud {args.out}')
    return 0
