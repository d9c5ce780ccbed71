"""The options of ``config``; imports nothing heavy."""

from __future__ import annotations

from mtl_plugins.config.arguments import add_data_root, add_precision, file_to_write
from mtl_plugins.config.cfg_options import ConfigArgumentParser


def build_parser() -> ConfigArgumentParser:
    """The options of ``config``."""
    parser = ConfigArgumentParser(prog='config', description='Print a config as the training would use it.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--method', metavar='KEY', help='swap the multi-task method; see tools/train.py --list-methods')
    add_precision(parser)
    parser.add_argument(
        '--save', type=file_to_write, metavar='FILE', help='also write it to FILE (.py, .json or .yaml)'
    )
    add_data_root(parser)
    return parser
