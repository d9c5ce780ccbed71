"""The options of ``doctor``; imports nothing heavy."""

from mtl_plugins.config.arguments import add_shared
from mtl_plugins.config.cfg_options import ConfigArgumentParser


def build_parser() -> ConfigArgumentParser:
    """The options of ``doctor``."""
    parser = ConfigArgumentParser(
        prog='doctor',
        description='Build everything that a config describes, train and validate on one batch, and report what is '
        'there, what it costs, and the first error. Nothing is written into the work dir.',
        epilog='exit codes: 0 no error, 1 an error, 2 wrong arguments',
    )
    parser.add_argument('config', help='config file, of mtl_plugins or any MMSegmentation one')
    parser.add_argument('--traceback', action='store_true', help='show where an error came from')
    add_shared(parser, 'method', 'precision', 'tasks', 'data_root')
    return parser
