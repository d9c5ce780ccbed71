"""The arguments of inference and what each of them may be: one table for Python and for the command line."""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mtl_plugins.config.arguments import given, names, pair, positive, positive_number
from mtl_plugins.errors import UserError
from mtl_plugins.methods.naming import near_matches
from mtl_plugins.models.segmentors.inference import MODES

from .sizes import CHOICES

Check = Callable[[Any], Any]


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _one_of(*choices: str) -> Check:
    def check(value: Any) -> str:
        if value not in choices:
            raise argparse.ArgumentTypeError(f'expected {" or ".join(map(repr, choices))}, but got {value!r}')
        return value

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise argparse.ArgumentTypeError(f'expected True or False, but got {value!r}')
    return bool(value)


def _resize(value: Any) -> str | tuple[int, int]:
    if isinstance(value, str) and value in CHOICES:
        return value
    try:
        return pair(value)
    except argparse.ArgumentTypeError:
        choices = ', '.join(map(repr, CHOICES))
        raise argparse.ArgumentTypeError(
            f'expected {choices} or (height, width), but got {value!r}; a size is such as 96,128'
        ) from None


OPTIONS: dict[str, Check] = dict(
    tasks=_optional(names),
    show_progress=_flag,
    batch_size=positive,
    return_datasamples=_flag,
    channel_order=_one_of('bgr', 'rgb'),
    fps=_optional(positive_number),
    resize=_resize,
    mode=_optional(_one_of(*MODES)),
    crop_size=_optional(pair),
    stride=_optional(pair),
    flip_tta=_optional(_flag),
    return_vis=_flag,
    panels=_flag,
    columns=positive,
    out_dir=_optional(given),
    raw=_flag,
    frames=_flag,
    keep=_optional(_flag),
)
"""Argument -> its check, an argument type of ``argparse`` that takes the value itself as well as a text."""


def checked(known: Iterable[str] = tuple(OPTIONS), **options: Any) -> dict[str, Any]:
    """The arguments as they are used.

    Args:
        known: What there is to choose from.
        **options: Name of an argument -> what was given for it.

    Raises:
        UserError: For a name that is not known, and for the first value that cannot be.
    """
    known = sorted(known)
    for name in options:
        if name not in known:
            raise UserError(f'unknown argument {name!r}: {near_matches(name, known)}')
    settled = {}
    for name, value in options.items():
        try:
            settled[name] = OPTIONS[name](value)
        except argparse.ArgumentTypeError as error:
            raise UserError(f'{name} must be {str(error).removeprefix("expected ")}') from None
    return settled
