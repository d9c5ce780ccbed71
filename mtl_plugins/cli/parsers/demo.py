"""The options of ``demo``; imports nothing heavy."""

import argparse

from mtl_plugins.config.arguments import add_shared


def build_parser() -> argparse.ArgumentParser:
    """The options of ``demo``."""
    parser = argparse.ArgumentParser(prog='demo', description='Train STGU on the embedded rooms and show the result.')
    add_shared(parser, 'verbose', work_dir='folder of the run (work_dirs/demo)')
    parser.set_defaults(work_dir='work_dirs/demo')
    return parser
