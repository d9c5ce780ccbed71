"""Command-line options that several tools share."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

LARGEST_SEED = 2**32 - 1
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
        '--data-root',
        type=given,
        metavar='DIR',
        help='folder of the data, for all splits, instead of the one in the config',
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add ``--precision``, and ``--amp`` as MMSegmentation calls its fp16."""
    parser.add_argument('--precision', choices=('fp32', 'bf16', 'fp16'), help='computing precision')
    parser.add_argument(
        '--amp', dest='precision', action='store_const', const='fp16', help='the same as --precision fp16'
    )


def add_tasks(
    parser: argparse.ArgumentParser, text: str = 'only these tasks of the config (all); one: its single-task model'
) -> None:
    """Add ``--tasks``."""
    parser.add_argument('--tasks', type=names, metavar='A,B', help=text)


def names(text: str) -> list[str]:
    """Argument type: names separated by commas, each once."""
    return list(dict.fromkeys(_split(text)))


def counts(text: str) -> list[int]:
    """Argument type: whole numbers of 1 or more, separated by commas, each once."""
    return list(dict.fromkeys(positive(part) for part in _split(text)))


def seeds(text: str) -> list[int]:
    """Argument type: random seeds separated by commas, each once."""
    return list(dict.fromkeys(seed(part) for part in _split(text)))


def seed(text: str) -> int:
    """Argument type: a random seed, a whole number that every generator takes."""
    return _whole(text, 0, LARGEST_SEED)


def positive(text: str) -> int:
    """Argument type: a whole number of 1 or more."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """Argument type: a whole number of 0 or more."""
    return _whole(text, 0)


def positive_number(text: str) -> float:
    """Argument type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f'expected a number above 0, but got {text!r}')
    return value


def given(text: str) -> str:
    """Argument type: any text but the empty one."""
    if not text.strip():
        raise argparse.ArgumentTypeError('expected a text, but got an empty one')
    return text


def file_to_write(text: str) -> Path:
    """Argument type: a file that can be written; so that no work is done in vain."""
    path = Path(given(text))
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'expected a file to write, but {text} is a folder')
    folder_to_write(str(path.parent))
    return path


def folder_to_write(text: str) -> Path:
    """Argument type: a folder that is there or can be made, and written into."""
    path = Path(given(text))
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f'{text} cannot be a folder: {there} is a file')
    if not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f'{text} cannot be written: {there} may not be written into')
    return path


def usable_device(text: str) -> str:
    """Argument type: a device that can be used here."""
    import torch

    try:
        torch.zeros(1, device=text).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split('\n')[0]
        raise argparse.ArgumentTypeError(f'{text!r} cannot be used ({reason}); cpu always can') from None
    return text


def pair(text: str) -> tuple[int, int]:
    """Argument type: height and width, two whole numbers of 1 or more separated by a comma or an x."""
    sides = [part.strip() for part in text.lower().replace('x', ',').split(',')]
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f'expected height and width such as 96,128, but got {text!r}')
    return positive(sides[0]), positive(sides[1])


def _whole(text: str, low: int, high: float = math.inf) -> int:
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        limits = f'{low} or more' if high == math.inf else f'{low} to {high}'
        found = f'a whole number, {limits}, but got {text!r}' if value is None else f'{limits}, but got {value}'
        raise argparse.ArgumentTypeError(f'expected {found}')
    return value


def _split(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(',') if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError('expected a list such as a,b')
    return parts
