"""The options of ``reproduce``; imports nothing heavy."""

from pathlib import Path

from mtl_plugins.config.arguments import add_shared, file_to_write, names, positive
from mtl_plugins.config.cfg_options import ConfigArgumentParser
from mtl_plugins.experiments.reproduce import list_tables

EPILOG = (
    'Start the same command again after an interruption: finished runs count, the others go on from their newest '
    'checkpoint. Without --run nothing is trained. exit codes: 0 done, 1 some run failed, 2 wrong arguments, '
    '75 interrupted. Example: reproduce.py taskonomy-vit-l --dry-run'
)


def build_parser() -> ConfigArgumentParser:
    """The options of the tool."""
    parser = ConfigArgumentParser(
        prog='reproduce',
        description='Print or run the trainings behind a published table, and fill it: our number, the published one, '
        'and the difference. Rows whose method is not part of mtl_plugins are shown as published only.',
        epilog=EPILOG,
    )
    parser.add_argument('table', nargs='?', metavar='TABLE', help=f'one of {", ".join(list_tables())}')
    action = parser.add_mutually_exclusive_group()
    action.add_argument('--dry-run', action='store_true', help='print all commands and stop')
    action.add_argument('--run', action='store_true', help='train what is missing, then fill the table')
    parser.add_argument(
        '--rows', type=names, metavar='A,B', help='only these rows, by name or method key (all of ours)'
    )
    parser.add_argument('--backbone', metavar='NAME', help='another than that of the table, e.g. vit-tiny for a trial')
    parser.add_argument('--gpus', type=positive, default=1, metavar='N', help='processes per run; they share the batch')
    parser.add_argument('--out', type=file_to_write, metavar='FILE.md', help='the table (<work dir>/<table>/table.md)')
    parser.add_argument('--metafile', action='store_true', help='write finished rows into the metafile of the configs')
    parser.add_argument('--list', action='store_true', help='list the tables and stop')
    add_shared(
        parser,
        'jobs',
        'data_root',
        seeds='one run each; the table has means (0)',
        work_dir='all runs (work_dirs/reproduce)',
    )
    parser.set_defaults(work_dir=Path('work_dirs/reproduce'))
    return parser
