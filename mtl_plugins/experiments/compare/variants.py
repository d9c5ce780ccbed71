"""What is compared: methods, each with the options in which it differs from its preset."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mtl_plugins.config.cfg_options import parse_value
from mtl_plugins.engine.catalogue import get_method
from mtl_plugins.errors import UserError, refusing
from mtl_plugins.methods.naming import near_matches

SINGLE = 'single'
"""Name of the single-task models in results; no variant can have it."""

LENGTHS = ('compute', 'time')
"""Options that are no entries of ``optim_wrapper`` but how long a variant is trained."""

_FORM = re.compile(r'^(?:(?P<name>[\w.+-]+)=)?(?P<method>\w+)(?:\[(?P<options>.*)\])?$')
_REFERENCE = re.compile(r'^(?:(?P<factor>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\*)?@(?P<name>.+)$')
_EXPECTED = 'expected METHOD, METHOD[option=value,...] or NAME=METHOD[option=value,...]'


class Reference(NamedTuple):
    """A number that is known when the runs of another variant are: ``'2*@stgu'`` is twice that of ``stgu``."""

    name: str
    factor: float


def reference(value: Any) -> Reference | None:
    """The reference that the value of an option is, or None."""
    match = _REFERENCE.match(value) if isinstance(value, str) else None
    return None if match is None else Reference(match['name'], float(match['factor'] or 1))


@dataclass(frozen=True)
class Variant:
    """A method with options.

    Args:
        name: Name in tables and folders.
        method: Key of the catalogue.
        options: Entries of ``optim_wrapper`` that are changed, with dots for nested ones:
            ``{'grouper.type': 'Random'}``, and how long it is trained (:data:`LENGTHS`): ``compute`` in that of the
            ordinary training of the config. The values ``'@NAME'`` and ``'2*@NAME'`` refer to the finished runs of
            the variant ``NAME``: ``gd[compute=@stgu]`` is trained until it has taken as many forwards and backwards,
            ``gd[time=@stgu]`` until it has taken as long, and ``gd[passes=@stgu]`` makes as many passes over each batch
            as ``stgu`` has groups on average, rounded.
    """

    name: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the variants that must be finished first."""
        found = map(reference, self.options.values())
        return tuple(each.name for each in found if each is not None)

    @property
    def settings(self) -> dict[str, Any]:
        """The options that are entries of ``optim_wrapper``."""
        return {name: value for name, value in self.options.items() if name not in LENGTHS}


def parse_variants(text: str) -> list[Variant]:
    """Read a list such as ``gd,gd3=gd[passes=3],stgu,stgu[grouper.type=Random]``.

    Raises:
        ValueError: If it is not of this form, a name occurs twice, or a reference leads nowhere.
        KeyError: If a method is unknown; the message lists the near matches.
    """
    variants = [_parse_variant(part) for part in split_list(text)]
    names = [variant.name for variant in variants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f'methods: {", ".join(twice)} occurs more than once; give names, as in gd2=gd[passes=2]')
    if SINGLE in names:
        raise UserError(f"methods: the name '{SINGLE}' is that of the single-task models; choose another")
    for variant in variants:
        for other in variant.references:
            found = next((each for each in variants if each.name == other), None)
            if found is None:
                others = [name for name in names if name != variant.name]
                told = near_matches(other, others) if others else 'there is no other method here'
                raise UserError(f'methods: {variant.name} refers to @{other}: {told}')
            if found.references:
                raise UserError(f'methods: {variant.name} refers to @{other}, which itself refers to another')
    return variants


def ordered(variants: Iterable[Variant]) -> list[Variant]:
    """Variants without references first, which the others need."""
    return sorted(variants, key=lambda variant: bool(variant.references))


def file_name(name: str) -> str:
    """``name`` with only such letters as suit the name of a file."""
    return ''.join(letter if letter.isalnum() or letter in '-_.+' else '_' for letter in name)


def _parse_variant(text: str) -> Variant:
    match = _FORM.match(text)
    if match is None:
        raise UserError(f'methods: {text!r} is not of the right form: {_EXPECTED}')
    with refusing('methods'):
        get_method(match['method'])
    options = {}
    for entry in split_list(match['options'] or ''):
        key, separator, value = entry.partition('=')
        if not (key and separator and value):
            raise UserError(f'methods: the option {entry!r} of {text!r} is not of the form option=value: {_EXPECTED}')
        options[key] = parse_value(value)
    _check_length(text, options)
    return Variant(match['name'] or text, match['method'], options)


def _check_length(text: str, options: dict[str, Any]) -> None:
    given = [name for name in LENGTHS if name in options]
    if len(given) == 2:
        raise UserError(f'methods: {text!r} has two lengths; leave out compute or time')
    for name in given:
        value = options[name]
        found = reference(value)
        number = value if found is None else found.factor
        usable = isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < float('inf')
        if not usable or (name == 'time' and found is None):
            wanted = '@NAME or 2*@NAME' + ', or a number above 0' * (name == 'compute')
            raise UserError(f'methods: {name} of {text!r} must be {wanted}, but is {value!r}')


def split_list(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text + ','):
        depth += (letter in '[(') - (letter in '])')
        if letter == ',' and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    if depth:
        raise UserError(f'methods: the brackets of {text!r} do not match')
    return [part for part in parts if part]
