"""The options of ``browse``; imports nothing heavy."""

from mtl_plugins.config.arguments import add_shared, positive
from mtl_plugins.config.cfg_options import ConfigArgumentParser


def build_parser() -> ConfigArgumentParser:
    """The options of ``browse``."""
    parser = ConfigArgumentParser(
        prog='browse',
        description='Write pictures of the images of a dataset and all their targets, as they leave the pipeline.',
        epilog='Example: python -m mtl_plugins browse CONFIG --split val -n 4',
    )
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train', help='default: train')
    parser.add_argument('-n', '--number', type=positive, default=8, help='number of pictures (default: 8)')
    add_shared(parser, 'data_root', out='default: work_dirs/browse/<config>/<split>')
    return parser
