"""The config of a run after inheritance and options: ``python -m mtl_plugins config``."""

import sys
from argparse import ArgumentParser, Namespace

from mtl_plugins.config.loading import load_config

from .parsers import command


@command
def main(parser: ArgumentParser, args: Namespace) -> int:
    """Print; returns the exit code."""
    if args.save and args.save.suffix not in ('.py', '.json', '.yaml', '.yml'):
        parser.error(f'argument --save: expected a file .py, .json or .yaml, but got {args.save}')
    cfg = load_config(args.config, args.cfg_options, args.method, args.precision, data_root=args.data_root)
    print(cfg.pretty_text)
    if args.save:
        args.save.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(str(args.save))
        print(f'# written to {args.save}', file=sys.stderr)
    return 0
