"""The options of ``verify``; imports nothing heavy."""

import argparse
from pathlib import Path

from mtl_plugins.datasets.verification.base import layout_check_names


def build_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog='verify.py',
        description='Check a dataset folder: layout, counts, and every file. Nothing is written into the folder.\n'
        'The first run notes the hashes of all files in a manifest; later runs tell what has changed since.',
        epilog='Example: python tools/datasets/verify.py nyud data/NYUDv2\n'
        'Exit code: 0 clean, 1 problems, 2 wrong usage, 130 interrupted',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ', '.join(layout_check_names())
    parser.add_argument('dataset', metavar='DATASET', help=f'{names}, or package.module:Class of a check of your own')
    parser.add_argument('root', metavar='ROOT', type=Path, help='the folder of the dataset, or the one above it')
    parser.add_argument('-j', '--jobs', type=int, metavar='N', help='processes (one for each processor)')
    parser.add_argument('--quick', action='store_true', help='look only whether all files are there; open none')
    parser.add_argument(
        '--show', type=int, default=5, metavar='N', help='files to list per kind of problem (default: %(default)s)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the whole report as JSON too')
    parser.add_argument(
        '--manifest', type=Path, metavar='FILE', help='the manifest (default: one per folder, in the cache)'
    )
    parser.add_argument('--update-manifest', action='store_true', help='accept changed and removed files')
    parser.add_argument('--no-hash', action='store_true', help='neither write nor compare a manifest')
    return parser
