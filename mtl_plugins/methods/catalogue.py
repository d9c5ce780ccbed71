"""All methods: what ``--list-methods`` prints and the tests and documents are generated from."""

from __future__ import annotations

import shutil
from textwrap import TextWrapper

from .catalogue_rows import ROWS
from .method_row import CostFunction, MethodRow, StepCost
from .naming import near_matches

_INDENT = ' ' * 18

__all__ = ['CostFunction', 'MethodRow', 'StepCost', 'format_catalogue', 'get_method', 'list_methods']

_CATALOGUE = {row.key: row for row in ROWS}


def list_methods() -> tuple[MethodRow, ...]:
    """Return all rows in the order of the catalogue."""
    return tuple(_CATALOGUE.values())


def get_method(key: str) -> MethodRow:
    """Return the row of method ``key``.

    Raises:
        KeyError: If there is no such method; the message lists the near matches.
    """
    if key not in _CATALOGUE:
        raise KeyError(f"unknown method '{key}': {near_matches(key, _CATALOGUE)}")
    return _CATALOGUE[key]


def format_catalogue(width: int | None = None) -> str:
    """Return the catalogue as text, one paragraph per method under its kind.

    Args:
        width: Columns to fill, at least 40; None for those of the terminal, up to 100.
    """
    width = min(shutil.get_terminal_size((80, 24)).columns, 100) if width is None else max(width, 40)
    fill = TextWrapper(width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False).fill
    note = 'With one task only, a method of which nothing else is said is ordinary training.'
    lines = ['Methods (K tasks, M groups)', *TextWrapper(width).wrap(note)]
    kind = None
    for row in list_methods():
        if row.kind != kind:
            kind = row.kind
            lines += ['', kind.upper()]
        source = f'{row.paper}, arXiv {row.arxiv}' if row.arxiv else row.paper
        exact = 'accumulates exactly' if row.accumulates_exactly else 'does not accumulate'
        lines.append(f'  {row.key:{len(_INDENT) - 4}}  {row.title}')
        lines.append(fill(f'cost: {row.cost}; {exact}'))
        lines += [fill(source)] if source else []
        lines.append(fill(f'verified: {row.verified}'))
        lines += [fill(f'with one task only: {row.one_task}')] if row.one_task else []
    return '\n'.join(lines) + '\n'
