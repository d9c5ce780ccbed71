"""Checks of single arguments that configs give."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral
from typing import Any

from mtl_plugins.errors import UserError


def one_of(name: str, value: Any, choices: Collection[Any]) -> None:
    """Refuse a value that is none of the choices.

    Args:
        name: Class and argument, for the message: ``'RoomsDataset.split'``.
        value: What was given.
        choices: What there is to choose from.

    Raises:
        UserError: If it is none of them.
    """
    if value not in choices:
        raise UserError(f'{name} must be one of {", ".join(map(repr, choices))}, but got {value!r}')


def whole(name: str, value: Any, least: int) -> int:
    """A whole number that is not too small; nothing is rounded.

    Args:
        name: Class and argument, for the message.
        value: What was given.
        least: The smallest that is right.

    Raises:
        UserError: If it is no whole number, or a smaller one.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise UserError(f'{name} must be a whole number, {least} or more, but got {value!r}')
    return int(value)
