"""The options of ``export``; imports nothing heavy."""

from mtl_plugins.config.arguments import add_shared, file_to_write, positive
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.export import FORMATS


def build_parser() -> ConfigArgumentParser:
    """The options of ``export``."""
    parser = ConfigArgumentParser(
        prog='export',
        description='Write a trained model as a file that runs without MMEngine, and check that it computes the same.',
        epilog='Input "image": (N, 3, H, W) float32, RGB, 0..255; any N. Outputs are named by their tasks. FILE.json '
        'beside the file says what they hold.',
    )
    parser.add_argument('config', help='config file, or name of a shipped config')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--format', choices=FORMATS, help='onnx, or pt2 of torch.export (by the suffix of --out)')
    parser.add_argument('--out', type=file_to_write, required=True, metavar='FILE', help='file to write')
    parser.add_argument(
        '--size', type=positive, nargs=2, metavar=('H', 'W'), help='size of the images (that of the training images)'
    )
    parser.add_argument('--raw', action='store_true', help='raw outputs instead of predictions')
    add_shared(parser, 'trust', tasks='only these tasks (all)')
    return parser
