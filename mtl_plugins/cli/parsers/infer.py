"""The options of ``infer``; imports nothing heavy."""

from collections.abc import Callable
from typing import Any

from mtl_plugins.config.arguments import add_shared, folder_to_write, usable_device
from mtl_plugins.config.cfg_options import ConfigArgumentParser

EPILOG = (
    'Files below --out: panels/NAME.png (all tasks side by side), TASK/NAME.png or .npy (raw predictions), VIDEO.mp4 '
    '(panels of a video), predictions.json (what is what, units, skipped inputs). Exit code: 0 all inputs were '
    'predicted, 1 some or all of them could not be read (each is named), or another error, 2 wrong usage, 130 '
    'interrupted.'
)


def build_parser() -> ConfigArgumentParser:
    """The options of ``infer``."""
    parser = ConfigArgumentParser(
        prog='infer', description='Predict all tasks for pictures, folders and videos.', epilog=EPILOG
    )
    parser.add_argument('config', help='config file, or name of a shipped config')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('inputs', nargs='+', metavar='IMAGE|FOLDER|VIDEO', help='what to predict')
    parser.add_argument(
        '--out', type=folder_to_write, required=True, metavar='DIR', help='folder for the files; made if needed'
    )
    parser.add_argument('--device', type=usable_device, help='cpu, cuda, cuda:1, ... (the best there is)')
    parser.add_argument(
        '--batch-size', type=_checked('batch_size'), default=1, metavar='N', help='most pictures at once (1)'
    )
    how = parser.add_argument_group('how to predict')
    how.add_argument(
        '--mode', choices=('whole', 'slide'), help='the whole picture at once, or windows over it (as in the config)'
    )
    how.add_argument(
        '--crop-size', type=_checked('crop_size'), metavar='H,W', help='size of a window (that of the training images)'
    )
    how.add_argument(
        '--stride', type=_checked('stride'), metavar='H,W', help='distance of windows (two thirds of --crop-size)'
    )
    how.add_argument(
        '--resize',
        type=_checked('resize'),
        metavar='fit|none|H,W',
        help='shrink pictures to the size of the training images, leave them, or a fixed size (fit; with windows none)',
    )
    how.add_argument(
        '--tta', action='store_true', default=None, help='average with the predictions for the mirrored picture'
    )
    files = parser.add_argument_group('files')
    files.add_argument('--no-raw', dest='raw', action='store_false', help='write no raw predictions')
    files.add_argument('--no-panels', dest='panels', action='store_false', help='write no panels')
    files.add_argument(
        '--columns', type=_checked('columns'), default=6, metavar='N', help='most tasks side by side (6)'
    )
    files.add_argument('--fps', type=_checked('fps'), metavar='F', help='frames per second to take of videos (all)')
    files.add_argument(
        '--frames', action='store_true', help='also write panels and raw predictions of single frames of videos'
    )
    add_shared(parser, 'trust', tasks='predict only these tasks (all)')
    return parser


def _checked(name: str) -> Callable[[str], Any]:
    """The argument type of an option, which the room of inference knows."""

    def check(text: str) -> Any:
        from mtl_plugins.inference.options import OPTIONS

        return OPTIONS[name](text)

    return check
