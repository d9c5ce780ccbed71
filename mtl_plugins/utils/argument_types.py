"""Whether the arguments that a config gives are what a class is annotated with."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from mtl_plugins.errors import refusing

_PLAIN: dict[Any, Callable[[Any], bool]] = {
    float: lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool) and math.isfinite(v),
    int: lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool),
    bool: lambda v: isinstance(v, bool),
    str: lambda v: isinstance(v, str),
    type(None): lambda v: v is None,
}
_NAMES = {float: 'a finite number', int: 'an integer', bool: 'True or False', str: 'text', type(None): 'None'}
_PLURALS = {**_NAMES, float: 'finite numbers', int: 'integers', str: 'texts'}


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


class Checked:
    """A class whose arguments are checked by their annotations, whoever builds it."""

    PLACE: ClassVar[str] = ''
    """What the arguments are part of, for messages; empty for the name of the class."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the arguments.

        Raises:
            UserError: For the first that is not what the annotation says; of another type, it is a TypeError, too.
        """
        with refusing():
            check_arguments(cls, given_arguments(cls, args, kwargs), f'{cls.PLACE or cls.__name__}.')
        return super().__new__(cls)


def given_arguments(kind: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a class is called with, by name."""
    signature = inspect.signature(kind)
    given = signature.bind_partial(*args, **kwargs).arguments
    further = next((name for name, each in signature.parameters.items() if each.kind is each.VAR_KEYWORD), '')
    return {**{name: value for name, value in given.items() if name != further}, **given.get(further, {})}


def check_arguments(kind: type, arguments: Mapping[str, Any], place: str = '') -> None:
    """Refuse what a constructor's annotations do not allow: numbers, words, lists and dicts of another kind or size.

    Args:
        kind: The class. Constructors of others, and arguments that are annotated with a class, are left to themselves.
        arguments: What it is about to be called with.
        place: What stands before their names in messages.

    Raises:
        TypeError: For an argument of another kind.
        ValueError: For one that is out of range, or none of several choices.
    """
    hints: dict[str, Any] = {}
    for each in reversed(kind.__mro__):
        constructor = vars(each).get('__init__')
        if inspect.isfunction(constructor):
            ours = each.__module__.startswith('mtl_plugins.')
            own = get_type_hints(constructor, include_extras=True) if ours else {}
            hints.update({**dict.fromkeys(inspect.signature(constructor).parameters, Any), **own})
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
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, inside[0], limits) and (not limits or inside[1].holds(value))
    if origin is Literal:
        return isinstance(value, str) and (not limits or value in inside)
    if origin is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(v, inside[0]) for v in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(v, inside[1]) for v in value.values())
    return True


def _words(hint: Any, many: bool = False) -> str:
    words = []
    for member in _members(hint):
        origin, inside = get_origin(member), get_args(member)
        if member in _PLAIN:
            words.append((_PLURALS if many else _NAMES)[member])
        elif origin is Annotated:
            one, several = ('an integer', 'integers') if inside[0] is int else ('a number', 'numbers')
            words.append(f'{several if many else one} {inside[1]}')
        elif origin is Literal:
            words.append(f'one of {inside}')
        elif origin is Sequence:
            words.append(f'a list of {_words(inside[0], many=True)}')
        elif origin is Mapping:
            words.append(f'a dict of {_words(inside[1], many=True)}')
    return ' or '.join(words)
