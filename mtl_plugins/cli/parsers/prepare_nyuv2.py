"""The options of ``prepare-nyuv2``; imports nothing heavy."""

import argparse
from pathlib import Path

from mtl_plugins.config.arguments import positive


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
