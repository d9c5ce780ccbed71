"""The options of ``test``; imports nothing heavy."""

from mtl_plugins.config.arguments import add_shared, file_to_write, folder_to_write, positive
from mtl_plugins.config.cfg_options import ConfigArgumentParser


def build_parser() -> ConfigArgumentParser:
    """The options of ``test``."""
    parser = ConfigArgumentParser(prog='test', description='Evaluate a trained model: metrics and pictures.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', type=file_to_write, metavar='FILE.json', help='also write the metrics to this file')
    parser.add_argument(
        '--show-dir', type=folder_to_write, metavar='DIR', help='write prediction panels into this folder'
    )
    parser.add_argument('--num-panels', type=positive, default=16, metavar='N', help='how many panels (16)')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="the config's tta_model, or else the mean with the mirrored image, for all tasks",
    )
    shared = ('tasks', 'data_root', 'trust', 'launcher', 'verbose')
    add_shared(parser, *shared, work_dir='folder for the log (work_dirs/<config name>)')
    return parser
