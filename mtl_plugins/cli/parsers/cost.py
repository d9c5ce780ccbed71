"""The options of ``cost``; imports nothing heavy."""

from mtl_plugins.config.arguments import add_shared, positive
from mtl_plugins.config.cfg_options import ConfigArgumentParser


def build_parser() -> ConfigArgumentParser:
    """The options of ``model_cost``."""
    parser = ConfigArgumentParser(
        prog='model_cost',
        description='Parameters and multiply-adds of a model and its parts, for one image. Needs neither data nor '
        'weights, and hardly any memory. Multiply-adds are those of convolutions, matrix products and attention.',
        epilog='example: python tools/analysis/model_cost.py configs/rooms/stgu_vit-micro_8b-2k_rooms-96.py',
    )
    parser.add_argument('config', help='config with a model; a fragment of configs/_base_/models with heads will do')
    parser.add_argument('--size', type=positive, nargs=2, metavar=('H', 'W'), help="size of the image (the config's)")
    parser.add_argument(
        '--depth', type=positive, metavar='N', help='levels of parts that are listed (backbone, decoder and each head)'
    )
    add_shared(parser, out='folder of the picture (work_dirs/cost/<config name>)')
    return parser
