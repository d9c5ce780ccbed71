"""The config of a run after inheritance and options: ``python -m mtl_plugins config``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mtl_plugins.config.arguments import add_data_root, add_precision, file_to_write
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.config.loading import load_config


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv`` and print; returns the exit code."""
    parser = ConfigArgumentParser(prog='config', description='Print a config as the training would use it.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--method', metavar='KEY', help='swap the multi-task method; see tools/train.py --list-methods')
    add_precision(parser)
    parser.add_argument(
        '--save', type=file_to_write, metavar='FILE', help='also write it to FILE (.py, .json or .yaml)'
    )
    add_data_root(parser)
    args = parser.parse_args(argv)
    if args.save and args.save.suffix not in ('.py', '.json', '.yaml', '.yml'):
        parser.error(f'argument --save: expected a file .py, .json or .yaml, but got {args.save}')
    cfg = load_config(args.config, args.cfg_options, args.method, args.precision, data_root=args.data_root)
    print(cfg.pretty_text)
    if args.save:
        args.save.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(str(args.save))
        print(f'# written to {args.save}', file=sys.stderr)
    return 0
