"""The options of ``demo``; imports nothing heavy."""

from __future__ import annotations

import argparse

from mtl_plugins.config.arguments import add_verbose, folder_to_write


def build_parser() -> argparse.ArgumentParser:
    """The options of ``demo``."""
    parser = argparse.ArgumentParser(prog='demo', description='Train STGU on the embedded rooms and show the result.')
    parser.add_argument(
        '--work-dir', type=folder_to_write, default='work_dirs/demo', help='folder of the run (work_dirs/demo)'
    )
    add_verbose(parser)
    return parser
