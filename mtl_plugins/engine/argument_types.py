"""Whether the arguments that a config gives are of the kind that a class is annotated with."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

_PLAIN = {
    float: ('a finite number', lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool) and math.isfinite(v)),
    int: ('a whole number', lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool)),
    bool: ('True or False', lambda v: isinstance(v, bool)),
    str: ('text', lambda v: isinstance(v, str)),
    type(None): ('None', lambda v: v is None),
}


def check_arguments(kind: type, arguments: Mapping[str, Any]) -> None:
    """Refuse numbers, words, lists and dicts where a constructor wants something else.

    Args:
        kind: The class. Classes of others, and arguments that are annotated with a class, are left to themselves.
        arguments: What it is about to be called with.

    Raises:
        TypeError: For the first argument of another kind.
    """
    hints = get_type_hints(kind.__init__) if kind.__module__.startswith('mtl_plugins.') else {}  # type: ignore[misc]
    for name, value in arguments.items():
        wanted = hints.get(name, Any)
        if not _fits(value, wanted):
            raise TypeError(f'{name} must be {_words(wanted)}, but got {value!r}')


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if isinstance(hint, type(int | str)) or get_origin(hint) is Union else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    return any(_fits_one(value, member) for member in _members(hint))


def _fits_one(value: Any, hint: Any) -> bool:
    if hint in _PLAIN:
        return _PLAIN[hint][1](value)
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(v, inside[0]) for v in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(v, inside[1]) for v in value.values())
    return True


def _words(hint: Any) -> str:
    words = []
    for member in _members(hint):
        if member in _PLAIN:
            words.append(_PLAIN[member][0])
        elif get_origin(member) is Sequence:
            words.append(f'a list whose entries are {_words(get_args(member)[0])}')
        elif get_origin(member) is Mapping:
            words.append(f'a dict whose values are {_words(get_args(member)[1])}')
    return ' or '.join(words)
