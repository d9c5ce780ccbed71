"""A published table filled with our numbers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.table import Table

from mtl_plugins.evaluation.delta_m import delta_m
from mtl_plugins.evaluation.result_table import plain_table

from .plan import RowRuns
from .tables import Column, PublishedRow, PublishedTable

NAN = float('nan')
EMPTY = '-'


@dataclass(frozen=True)
class FilledRow:
    """A row with our numbers.

    Args:
        row: The published row.
        values: Our value per column, mean over the finished seeds; NaN where there is none.
        delta_m: Ours in percent against our single-task row; NaN if either lacks a value.
        finished: Number of finished runs.
        planned: Number of runs that the row takes; 0 if the method is not ours.
    """

    row: PublishedRow
    values: tuple[float, ...]
    delta_m: float
    finished: int
    planned: int

    @property
    def complete(self) -> bool:
        """Whether every run of the row is finished."""
        return 0 < self.planned == self.finished


def fill_table(table: PublishedTable, planned: Sequence[RowRuns]) -> list[FilledRow]:
    """Read the metrics of the finished runs; runs that are not finished count for nothing."""
    metrics = [{key: found for key, run in plan.runs.items() if (found := run.metrics())} for plan in planned]
    values = [_values(table.columns, plan.row, found) for plan, found in zip(planned, metrics)]
    single = next((line for plan, line in zip(planned, values) if plan.row.single_task), None)
    directions = {column.name: column.higher_is_better for column in table.columns}
    filled = []
    for plan, line, found in zip(planned, values, metrics):
        overall = NAN
        if single is not None and plan.row.ours and not plan.row.single_task:
            overall = delta_m(_named(table.columns, line), _named(table.columns, single), directions)
        filled.append(FilledRow(plan.row, line, overall, len(found), len(plan.runs)))
    return filled


def to_rich(table: PublishedTable, rows: Sequence[FilledRow]) -> Table:
    """Ours, published and their difference, one line each per row; print it as wide as it wants to be."""
    out = plain_table(table.title, ('row', ''), _headings(table))
    for filled in rows:
        for cells in _lines(filled):
            out.add_row(*cells)
        out.add_section()
    return out


def to_markdown(table: PublishedTable, rows: Sequence[FilledRow], remark: str = '') -> str:
    """The same as Markdown."""
    headings = ['row', '', *_headings(table)]
    lines = [
        f'# {table.title}',
        '',
        f'Published: {table.source}.',
        '',
        table.caution,
        *(['', remark] * bool(remark)),
        '',
    ]
    lines += ['| ' + ' | '.join(headings) + ' |', '|' + '---|' * len(headings)]
    lines += ['| ' + ' | '.join(cells) + ' |' for filled in rows for cells in _lines(filled)]
    return '\n'.join(lines) + '\n'


def _headings(table: PublishedTable) -> list[str]:
    return [f'{column.name} {"↑" if column.higher_is_better else "↓"}' for column in table.columns] + ['Δm %']


def _lines(filled: FilledRow) -> list[list[str]]:
    """The lines of a row; its name stands in the first one."""
    row = filled.row
    published = row.values or (None,) * len(filled.values)
    lines = []
    if row.ours:
        state = 'ours' if filled.complete else f'ours ({filled.finished} of {filled.planned} runs)'
        cells = [_text(value, _digits(like, value)) for value, like in zip(filled.values, published)]
        lines.append([state, *cells, _text(filled.delta_m, 2)])
    overall = _text(row.delta_m, 2) + (f' ± {row.spread:g}' if row.spread is not None else '')
    cells = [_text(value, _digits(value)) for value in published]
    lines.append([f'published{f" ({row.note})" if row.note else ""}', *cells, overall])
    if row.ours and filled.finished:
        cells = [_difference(value, like, _digits(like, value)) for value, like in zip(filled.values, published)]
        lines.append(['difference', *cells, _difference(filled.delta_m, row.delta_m, 2)])
    return [[name, *line] for name, line in zip_longest([row.name], lines, fillvalue='')]


def _digits(*values: float | None) -> int:
    """Decimals of a column whose published value, or else ours, is of this size."""
    known = next((value for value in values if value is not None), 0.0)
    return 2 if abs(known) >= 2 else 4


def _text(value: float | None, digits: int) -> str:
    return EMPTY if value is None or math.isnan(value) else f'{value:.{digits}f}'


def _difference(ours: float, published: float | None, digits: int) -> str:
    if published is None or math.isnan(ours):
        return EMPTY
    return f'{ours - published:+.{digits}f}'


def _values(
    columns: Sequence[Column], row: PublishedRow, metrics: Mapping[tuple[int, str | None], Mapping[str, float | None]]
) -> tuple[float, ...]:
    line = []
    for column in columns:
        wanted = column.name if row.single_task else None
        found = [entry.get(column.metric) for (_, name), entry in metrics.items() if name == wanted]
        known = [value for value in found if value is not None]
        # A seed without the value is no reason to report the mean of the others.
        line.append(statistics.fmean(known) if known and len(known) == len(found) else NAN)
    return tuple(line)


def _named(columns: Sequence[Column], values: Sequence[float]) -> dict[str, float]:
    return {column.name: value for column, value in zip(columns, values)}
