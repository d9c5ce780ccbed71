"""The options of ``config``; imports nothing heavy."""

from mtl_plugins.config.arguments import add_shared, file_to_write
from mtl_plugins.config.cfg_options import ConfigArgumentParser


def build_parser() -> ConfigArgumentParser:
    """The options of ``config``."""
    parser = ConfigArgumentParser(prog='config', description='Print a config as the training would use it.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--save', type=file_to_write, metavar='FILE', help='also write it to FILE (.py, .json or .yaml)'
    )
    add_shared(parser, 'method', 'precision', 'data_root')
    return parser
