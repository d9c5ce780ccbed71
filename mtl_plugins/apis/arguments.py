"""Command-line options that several tools share."""

from __future__ import annotations

import argparse

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher``, and the ``--local-rank`` that launchers pass."""
    parser.add_argument(
        '--launcher', choices=LAUNCHERS, default='none', help='how processes were started; dist_*.sh set it (none)'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-checkpoint``."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load a checkpoint that contains code. Only for files of people you trust: loading runs that code',
    )


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Add ``--data-root``."""
    parser.add_argument(
        '--data-root', metavar='DIR', help='folder of the data, for all splits, instead of the one in the config'
    )
