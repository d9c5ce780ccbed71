"""Command-line options that several tools share."""

import argparse
import math
import numbers
import os
from pathlib import Path
from typing import Any

from mtl_plugins.errors import UserError
from mtl_plugins.utils.files import path_to_write

LARGEST_SEED = 2**32 - 1
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def names(value: Any) -> list[str]:
    """Argument type: names, or a text that separates them by commas; each once."""
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) and name for name in value):
        return list(dict.fromkeys(value))
    if not isinstance(value, str):
        raise argparse.ArgumentTypeError(f'expected one or more names, but got {value!r}')
    return list(dict.fromkeys(_split(value)))


def counts(text: str) -> list[int]:
    """Argument type: whole numbers of 1 or more, separated by commas, each once."""
    return list(dict.fromkeys(positive(part) for part in _split(text)))


def seeds(text: str) -> list[int]:
    """Argument type: random seeds separated by commas, each once."""
    return list(dict.fromkeys(seed(part) for part in _split(text)))


def seed(text: str) -> int:
    """Argument type: a random seed, a whole number that every generator takes."""
    return _whole(text, 0, LARGEST_SEED)


def positive(value: Any) -> int:
    """Argument type: a whole number of 1 or more, or its text."""
    return _whole(value, 1)


def positive_number(value: Any) -> float:
    """Argument type: a finite number above 0, or its text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f'expected a number above 0, but got {value!r}')
    return number


def share(text: str) -> float:
    """Argument type: a number between 0 and 1, exclusive."""
    number = positive_number(text)
    if number >= 1:
        raise argparse.ArgumentTypeError(f'expected a number between 0 and 1, but got {text!r}')
    return number


def given(value: Any) -> Any:
    """Argument type: any text or path but the empty text."""
    if not isinstance(value, str | os.PathLike):
        raise argparse.ArgumentTypeError(f'expected a text, but got {value!r}')
    if not os.fspath(value).strip():
        raise argparse.ArgumentTypeError('expected a text, but got an empty one')
    return value


def file_to_write(text: str) -> Path:
    """Argument type: a file that can be written, checked before the work begins."""
    path = _path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'expected a file to write, but {text} is a folder')
    folder_to_write(str(path.parent))
    return path


def folder_to_write(text: str) -> Path:
    """Argument type: a folder that is there or can be made, and written into."""
    path = _path(text)
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f'{text} cannot be a folder: {there} is a file')
    if not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f'{text} cannot be written: {there} may not be written into')
    return path


def _path(text: str) -> Path:
    try:
        return path_to_write(given(text), 'it')
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def usable_device(text: str) -> str:
    """Argument type: a device that can be used here."""
    import torch

    try:
        torch.zeros(1, device=text).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split('\n')[0]
        raise argparse.ArgumentTypeError(f'{text!r} cannot be used ({reason}); cpu always can') from None
    return text


def pair(value: Any) -> tuple[int, int]:
    """Argument type: height and width, whole numbers of 1 or more, or their text with a comma or an x between them."""
    sides = value.lower().replace('x', ',').split(',') if isinstance(value, str) else value
    try:
        height, width = map(positive, sides)
    except (TypeError, ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f'expected two whole numbers (height, width) of 1 or more, such as 96,128, but got {value!r}'
        ) from None
    return height, width


def _whole(given: Any, low: int, high: float = math.inf) -> int:
    try:
        number = int(given) if isinstance(given, str | numbers.Integral) and not isinstance(given, bool) else None
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        limits = f'{low} or more' if high == math.inf else f'{low} to {high}'
        found = f'a whole number, {limits}, but got {given!r}' if number is None else f'{limits}, but got {number}'
        raise argparse.ArgumentTypeError(f'expected {found}')
    return number


def _split(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(',') if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError('expected a list such as a,b')
    return parts


_SHARED: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {
    'data_root': {
        ('--data-root',): dict(
            type=given, metavar='DIR', help='folder of the data, for all splits, instead of the one in the config'
        )
    },
    'jobs': {('--jobs',): dict(type=positive, default=1, metavar='N', help='trainings at a time (1)')},
    'launcher': {
        ('--launcher',): dict(
            choices=LAUNCHERS, default='none', help='how processes were started; dist_*.sh set it (none)'
        ),
        # Launchers pass it.
        ('--local_rank', '--local-rank'): dict(type=int, default=0, help=argparse.SUPPRESS),
    },
    'method': {
        ('--method',): dict(metavar='KEY', help='swap the multi-task method; see tools/train.py --list-methods')
    },
    'out': {('--out',): dict(type=folder_to_write, metavar='DIR')},
    'precision': {
        ('--precision',): dict(choices=('fp32', 'bf16', 'fp16'), help='computing precision'),
        # MMSegmentation's name of its fp16.
        ('--amp',): dict(dest='precision', action='store_const', const='fp16', help='the same as --precision fp16'),
    },
    'seeds': {('--seeds',): dict(type=seeds, default=[0], metavar='0,1')},
    'tasks': {
        ('--tasks',): dict(
            type=names, metavar='A,B', help='only these tasks of the config (all); one: its single-task model'
        )
    },
    'trust': {
        ('--trust-checkpoint',): dict(
            action='store_true',
            help='load a checkpoint that contains code. Only for files of people you trust: loading runs that code',
        )
    },
    'verbose': {
        ('--verbose',): dict(
            action='store_true',
            help='show on the console all that goes into the log file: environment, whole config, order of hooks',
        )
    },
    'work_dir': {('--work-dir',): dict(type=folder_to_write, metavar='DIR')},
}
"""Name -> the options that it stands for."""


def add_shared(parser: argparse.ArgumentParser, *shared: str, **helps: str) -> None:
    """Add options that several commands have, by their names in :data:`_SHARED`; of ``helps`` with another text."""
    for name in (*shared, *helps):
        # Two options for one setting exclude each other.
        several = any('dest' in settings for settings in _SHARED[name].values())
        group = parser.add_mutually_exclusive_group() if several else parser
        for flags, settings in _SHARED[name].items():
            group.add_argument(*flags, **{**settings, **({'help': helps[name]} if name in helps else {})})
