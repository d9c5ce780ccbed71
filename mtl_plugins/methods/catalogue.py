"""All methods: what ``--list-methods`` prints and the tests and documents are generated from."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .catalogue_rows import ROWS
from .method_row import CostFunction, MethodRow, StepCost
from .naming import near_matches

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


def format_catalogue(width: int | None = None, color: bool = False) -> str:
    """Return the catalogue as a table.

    Args:
        width: Columns of the terminal; None to find out.
        color: Keep the terminal's colour codes.
    """
    table = Table(title='Methods (K tasks, M groups)', title_justify='left')
    table.add_column('method', no_wrap=True)
    for heading in ('name', 'kind', 'cost per batch', 'accumulates exactly', 'paper', 'verified'):
        table.add_column(heading, overflow='fold')
    for row in list_methods():
        paper = f'{row.paper}, arXiv {row.arxiv}' if row.arxiv else row.paper or '-'
        exact = 'yes' if row.accumulates_exactly else 'no'
        table.add_row(row.key, row.title, row.kind, row.cost, exact, paper, row.verified)
    console = Console(width=width, force_terminal=color, color_system='auto' if color else None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
