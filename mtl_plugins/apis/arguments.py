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


def add_tasks(
    parser: argparse.ArgumentParser, text: str = 'only these tasks of the config (all); one: its single-task model'
) -> None:
    """Add ``--tasks``."""
    parser.add_argument('--tasks', type=names, metavar='A,B', help=text)


def names(text: str) -> list[str]:
    """Argument type: names separated by commas, each once."""
    return list(dict.fromkeys(_split(text)))


def numbers(text: str) -> list[int]:
    """Argument type: whole numbers separated by commas, each once."""
    return list(dict.fromkeys(int(part) for part in _split(text)))


def positive(text: str) -> int:
    """Argument type: a whole number of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected 1 or more, but got {value}')
    return value


def pair(text: str) -> tuple[int, int]:
    """Argument type: height and width, two whole numbers of 1 or more separated by a comma or an x."""
    sides = [part.strip() for part in text.lower().replace('x', ',').split(',')]
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f'expected height and width such as 96,128, but got {text!r}')
    return positive(sides[0]), positive(sides[1])


def _split(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(',') if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError('expected a list such as a,b')
    return parts
