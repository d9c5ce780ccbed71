"""What is compared: methods, each with the options in which it differs from its preset."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mtl_plugins.config.cfg_options import parse_value
from mtl_plugins.engine.catalogue import get_method
from mtl_plugins.errors import UserError, refusing
from mtl_plugins.methods.naming import near_matches

SINGLE = 'single'
"""Name of the single-task models in results; no variant can have it."""

_FORM = re.compile(r'^(?:(?P<name>[\w.+-]+)=)?(?P<method>\w+)(?:\[(?P<options>.*)\])?$')
_EXPECTED = 'expected METHOD, METHOD[option=value,...] or NAME=METHOD[option=value,...]'


@dataclass(frozen=True)
class Variant:
    """A method with options.

    Args:
        name: Name in tables and folders.
        method: Key of the catalogue.
        options: Entries of ``optim_wrapper`` that are changed, with dots for nested ones:
            ``{'grouper.type': 'Random'}``. The value ``'@NAME'`` stands for the mean number of groups of the finished
            runs of the variant ``NAME``, rounded: ``gd[passes=@stgu]`` is ordinary training at the cost of STGU.
    """

    name: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the variants that must be finished first."""
        return tuple(value[1:] for value in self.options.values() if isinstance(value, str) and value.startswith('@'))


def parse_variants(text: str) -> list[Variant]:
    """Read a list such as ``gd,gd3=gd[passes=3],stgu,stgu[grouper.type=Random]``.

    Raises:
        ValueError: If it is not of this form, a name occurs twice, or a reference leads nowhere.
        KeyError: If a method is unknown; the message lists the near matches.
    """
    variants = [_parse_variant(part) for part in _split(text)]
    names = [variant.name for variant in variants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f'methods: {", ".join(twice)} occurs more than once; give names, as in gd2=gd[passes=2]')
    if SINGLE in names:
        raise UserError(f"methods: the name '{SINGLE}' is that of the single-task models; choose another")
    for variant in variants:
        for reference in variant.references:
            found = next((other for other in variants if other.name == reference), None)
            if found is None:
                others = [name for name in names if name != variant.name]
                told = near_matches(reference, others) if others else 'there is no other method here'
                raise UserError(f'methods: {variant.name} refers to @{reference}: {told}')
            if found.references:
                raise UserError(f'methods: {variant.name} refers to @{reference}, which itself refers to another')
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
    for entry in _split(match['options'] or ''):
        key, separator, value = entry.partition('=')
        if not (key and separator and value):
            raise UserError(f'methods: the option {entry!r} of {text!r} is not of the form option=value: {_EXPECTED}')
        options[key] = parse_value(value)
    return Variant(match['name'] or text, match['method'], options)


def _split(text: str) -> list[str]:
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
