"""The options of ``train``; imports nothing heavy."""

from mtl_plugins.config.arguments import add_shared, names, seed
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.config.log_services import SERVICES

EPILOG = (
    'exit codes: 0 finished, 1 error (also: finished, but the last state or the metrics could not be saved), 2 wrong '
    'arguments, 75 stopped by SIGTERM, SIGUSR1 or SIGHUP after saving what there was (start again with --resume)'
)


def build_parser() -> ConfigArgumentParser:
    """The options of ``train``."""
    parser = ConfigArgumentParser(prog='train', description='Train a multi-task model.', epilog=EPILOG)
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument('--list-methods', action='store_true', help='print all methods and what they cost, and stop')
    resume = parser.add_mutually_exclusive_group()
    resume.add_argument(
        '--resume', action='store_true', help='go on from the newest loadable checkpoint of the work dir, if any'
    )
    resume.add_argument('--resume-from', metavar='PATH', help='go on from this checkpoint')
    parser.add_argument('--seed', type=seed, metavar='N', help='random seed')
    parser.add_argument(
        '--log-to', metavar='A,B', type=names, default=[], help=f'also log to these services: {", ".join(SERVICES)}'
    )
    shared = ('method', 'tasks', 'precision', 'data_root', 'trust', 'launcher', 'verbose')
    add_shared(parser, *shared, work_dir='folder of the run (work_dirs/<config name>)')
    return parser
