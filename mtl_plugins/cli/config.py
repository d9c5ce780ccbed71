"""The config of a run after inheritance and options: ``python -m mtl_plugins config``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mtl_plugins.config.loading import load_config

from .parsers.config import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv`` and print; returns the exit code."""
    parser = build_parser()
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
