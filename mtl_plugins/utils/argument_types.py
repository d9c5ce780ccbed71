"""Whether the arguments that a config gives are what a class is annotated with."""

from __future__ import annotations

import inspect
import math
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from mtl_plugins.errors import refusing

_PLAIN: dict[Any, Callable[[Any], bool]] = {
    float: lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool) and math.isfinite(v),
    int: lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool),
    bool: lambda v: isinstance(v, bool),
    str: lambda v: isinstance(v, str),
    os.PathLike: lambda v: isinstance(v, os.PathLike),
    type(None): lambda v: v is None,
}
_NAMES = {
    float: ('a finite number', 'finite numbers'),
    int: ('an integer', 'integers'),
    bool: ('True or False', 'True or False'),
    str: ('a string', 'strings'),
    os.PathLike: ('a path', 'paths'),
    type(None): ('None', 'None'),
}


@dataclass(frozen=True)
class Range:
    """Limits of a number in an annotation: ``Annotated[float, Range(0, 1)]``.

    Args:
        low: Smallest value.
        high: Largest value.
        above: Whether ``low`` itself is excluded.
        below: Whether ``high`` itself is excluded.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number lies within."""
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f'{">" if self.above else ">="} {self.low}'
        return f'in {"(" if self.above else "["}{self.low}, {self.high}{")" if self.below else "]"}'


Count = Annotated[int, Range(1)]
Index = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]


class Checked:
    """A class whose arguments are checked by their annotations, whoever builds it."""

    PLACE: ClassVar[str] = ''
    """What the arguments are part of, for messages; empty for the name of the class."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the arguments.

        Raises:
            UserError: For the first that is not what the annotation says; of another type, it is a TypeError, too.
        """
        given = given_arguments(cls, args, kwargs)
        with refusing():
            check_arguments(cls, given, f'{cls.PLACE or cls.__name__}.')
        return super().__new__(cls)


def given_arguments(kind: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a class is called with, by name.

    Raises:
        UserTypeError: For one that it does not have.
    """
    signature = inspect.signature(kind)
    with refusing(kind.__name__):
        given = signature.bind_partial(*args, **kwargs).arguments
    further = next((name for name, each in signature.parameters.items() if each.kind is each.VAR_KEYWORD), '')
    return {**{name: value for name, value in given.items() if name != further}, **given.get(further, {})}


def check_arguments(kind: Callable[..., Any], arguments: Mapping[str, Any], place: str = '') -> None:
    """Refuse what the annotations do not allow: numbers, words, paths, lists and dicts of another kind or size.

    Args:
        kind: The class or function. Constructors of others, and arguments that are annotated with another class, are
            left to themselves.
        arguments: What it is about to be called with.
        place: What stands before their names in messages.

    Raises:
        TypeError: For an argument of another kind.
        ValueError: For one that is out of range, or none of several choices.
    """
    hints: dict[str, Any] = {}
    bases = reversed(inspect.getmro(kind)) if inspect.isclass(kind) else ()
    for function in [vars(each).get('__init__') for each in bases] or [kind]:
        if inspect.isfunction(function):
            ours = function.__module__.startswith('mtl_plugins.')
            own = get_type_hints(function, include_extras=True) if ours else {}
            hints.update({**dict.fromkeys(inspect.signature(function).parameters, Any), **own})
    for name, value in arguments.items():
        wanted = hints.get(name, Any)
        if not _fits(value, wanted):
            error = ValueError if _fits(value, wanted, limits=False) else TypeError
            raise error(f'{place}{name} must be {_words(wanted)}, but got {value!r}')


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if isinstance(hint, type(int | str)) or get_origin(hint) is Union else (hint,)


def _fits(value: Any, hint: Any, limits: bool = True) -> bool:
    return any(_fits_one(value, member, limits) for member in _members(hint))


def _fits_one(value: Any, hint: Any, limits: bool) -> bool:
    if hint in _PLAIN:
        return _PLAIN[hint](value)
    origin, inside = get_origin(hint) or hint, get_args(hint)
    if origin is Annotated:
        return _fits(value, inside[0], limits) and (not limits or inside[1].holds(value))
    if origin is Literal:
        return isinstance(value, str) and (not limits or value in inside)
    if origin in (Sequence, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str) or (_pair(hint) and limits and len(value) != 2):
            return False
        return all(_fits(each, member, limits) for each in value for member in inside[:1])
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(v, m, limits) for v in value.values() for m in inside[1:])
    return True


def _pair(hint: Any) -> bool:
    return get_origin(hint) is tuple and ... not in get_args(hint)


def _words(hint: Any, many: bool = False) -> str:
    words = []
    for member in _members(hint):
        origin, inside = get_origin(member) or member, get_args(member)
        if member in _PLAIN:
            words.append(_NAMES[member][many])
        elif origin is Annotated:
            one, several = ('an integer', 'integers') if inside[0] is int else ('a number', 'numbers')
            words.append(f'{several if many else one} {inside[1]}')
        elif origin is Literal:
            words.append(f'one of {inside}')
        elif origin in (Sequence, tuple, Mapping):
            name, names = ('a dict', 'dicts') if origin is Mapping else ('a list', 'lists')
            contents = _words(inside[origin is Mapping], many=True) if inside else ''
            words.append((names if many else name) + (f' of {"two " * _pair(member)}{contents}' if contents else ''))
    return ' or '.join(words)
