"""The table at the end of an evaluation, for people."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

UNKNOWN = '–'
WIDTH = 110


@dataclass(frozen=True)
class ResultRow:
    """One line of the table.

    Args:
        task: Title of the task; empty on the further lines of one task.
        metric: Name of the metric without prefix.
        value: Result.
        unit: Unit of ``value``, ``''`` if it has none.
        higher_is_better: Direction; None draws no arrow.
        baseline: Value of the single-task model, None if there is none.
        change: Change against it in percent, positive is better; None if there is none.
    """

    task: str
    metric: str
    value: float
    unit: str = ''
    higher_is_better: bool | None = None
    baseline: float | None = None
    change: float | None = None

    @property
    def label(self) -> str:
        """Name of the metric with an arrow into the direction of better."""
        arrow = {True: ' ↑', False: ' ↓', None: ''}[self.higher_is_better]
        return self.metric + arrow


def plain_table(title: str, texts: Sequence[str], numbers: Sequence[str], **options: Any) -> Table:
    """A table without rows: columns of text, then those of numbers, which are right-aligned; no cell is broken."""
    table = Table(title=title, title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False, **options)
    for heading in texts:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify='right', no_wrap=True)
    return table


def build_table(rows: Sequence[ResultRow], delta_m: float | None = None, title: str = 'Results') -> Table:
    """Return the rich table of ``rows``.

    Columns for the single-task baseline and the change against it are there only if any row has a baseline or
    ``delta_m`` is given; Delta_m is then the last line.

    Args:
        rows: The lines, in order.
        delta_m: Delta_m in percent, NaN if undefined, None to leave it out.
        title: Heading.
    """
    compared = delta_m is not None or any(row.baseline is not None for row in rows)
    table = Table(title=title, title_justify='left', title_style='bold', box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column('Task', no_wrap=True)
    table.add_column('Metric', no_wrap=True)
    table.add_column('Value', justify='right', no_wrap=True)
    table.add_column('Unit', no_wrap=True)
    if compared:
        table.add_column('Single task', justify='right', no_wrap=True)
        table.add_column('Change (+ is better)', justify='right', no_wrap=True)
    for index, row in enumerate(rows):
        last = index == len(rows) - 1
        cells = [row.task, row.label, format_value(row.value), row.unit]
        if compared:
            cells += [UNKNOWN if row.baseline is None else format_value(row.baseline), _change(row.change)]
        table.add_row(*cells, style=None if row.task else 'dim', end_section=last)
    if delta_m is not None:
        table.add_row('Δm', 'mean change', '', '', '', _change(delta_m), style='bold')
    return table


def render_text(table: Table, width: int = WIDTH) -> str:
    """Return the table as plain text for log files: no colours, no control characters, no blanks at line ends."""
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False, color_system=None, legacy_windows=False).print(table)
    return '\n'.join(line.rstrip() for line in stream.getvalue().splitlines()).strip('\n')


def format_value(value: float) -> str:
    """Return a number with about four significant digits and no exponent in the common range."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 10 or size == 0:
        return f'{value:.2f}'
    if size >= 1:
        return f'{value:.3f}'
    return f'{value:.4f}' if size >= 1e-3 else f'{value:.2e}'


def _change(change: float | None) -> Text | str:
    if change is None:
        return UNKNOWN
    if math.isnan(change):
        return 'nan'
    text = f'{change:+.2f} %'
    return Text(text, style='green' if change >= 0 else 'red')
