"""The options of ``train``; imports nothing heavy."""

from __future__ import annotations

from mtl_plugins.config.arguments import (
    add_data_root,
    add_launcher,
    add_precision,
    add_tasks,
    add_trust,
    add_verbose,
    folder_to_write,
    names,
    seed,
)
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.config.log_services import SERVICES

EPILOG = (
    'exit codes: 0 finished, 1 error (also: finished, but the last state or the metrics could not be saved), 2 wrong '
    'arguments, 75 stopped by SIGTERM or SIGUSR1 after saving what there was (start again with --resume)'
)


def build_parser() -> ConfigArgumentParser:
    """The options of ``train``."""
    parser = ConfigArgumentParser(prog='train', description='Train a multi-task model.', epilog=EPILOG)
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument('--method', metavar='KEY', help='swap the multi-task method; see --list-methods')
    parser.add_argument('--list-methods', action='store_true', help='print all methods and what they cost, and stop')
    add_tasks(parser)
    add_precision(parser)
    resume = parser.add_mutually_exclusive_group()
    resume.add_argument(
        '--resume', action='store_true', help='go on from the newest loadable checkpoint of the work dir, if any'
    )
    resume.add_argument('--resume-from', metavar='PATH', help='go on from this checkpoint')
    parser.add_argument(
        '--work-dir', type=folder_to_write, metavar='DIR', help='folder of the run (work_dirs/<config name>)'
    )
    parser.add_argument('--seed', type=seed, metavar='N', help='random seed')
    parser.add_argument(
        '--log-to', metavar='A,B', type=names, default=[], help=f'also log to these services: {", ".join(SERVICES)}'
    )
    add_data_root(parser)
    add_trust(parser)
    add_launcher(parser)
    add_verbose(parser)
    return parser
