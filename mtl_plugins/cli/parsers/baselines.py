"""The options of ``baselines``; imports nothing heavy."""

from mtl_plugins.config.arguments import add_shared, file_to_write
from mtl_plugins.config.cfg_options import ConfigArgumentParser

EPILOG = (
    'Each run has a folder in the work dir. Start the same command again after an interruption: finished runs are '
    'taken over, the others go on from their newest checkpoint. exit codes: 0 written, 1 some run failed (nothing is '
    'written), 2 wrong arguments, 75 interrupted'
)


def build_parser() -> ConfigArgumentParser:
    """The options of the tool."""
    parser = ConfigArgumentParser(
        prog='single_task_baselines',
        description='Train each task of a config alone, by ordinary training on the same data and schedule, and write '
        'the metrics of the last validation as the baselines that delta_m is measured against.',
        epilog=EPILOG,
    )
    parser.add_argument('config', help='config file of a multi-task training')
    parser.add_argument(
        '--out', type=file_to_write, metavar='FILE', help='result (<config name>.baselines.json beside CONFIG)'
    )
    add_shared(
        parser,
        'tasks',
        'jobs',
        'data_root',
        seeds='the baseline is their mean (0)',
        work_dir='runs (work_dirs/baselines/<config name>)',
    )
    return parser
