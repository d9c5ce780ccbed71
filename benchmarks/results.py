"""What the step benchmark found, as rows, checks against the targets, a table and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from mtl_plugins.experiments.measuring.timing import Spread

from .counting import Counts
from .equality import TOLERANCE

READS_PER_STEP = 1
TIME_LIMIT = 1.03
MEMORY_LIMIT = 0.90
MEMORY_LIMIT_FROM_TASKS = 11
MEMORY_GROWTH = 0.05


@dataclass
class Row:
    """One system at one number of tasks.

    Attributes:
        num_tasks: K.
        system: ``'gd'``, ``'stgu'`` or ``'released'``.
        num_groups: M.
        counts: Work of a batch.
        peak_bytes: Peak memory of a step above the idle model.
        seconds: Time of a step.
        to_gd: Time in units of gd.
        to_released: Time in units of the released loop with as many groups; None but for stgu.
        update_difference: Relative difference of the update to that of the released loop; None but for stgu.
    """

    num_tasks: int
    system: str
    num_groups: int
    counts: Counts
    peak_bytes: int
    seconds: Spread | None = None
    to_gd: Spread | None = None
    to_released: Spread | None = None
    update_difference: float | None = None


@dataclass(frozen=True)
class Check:
    """A target, what was found, whether that meets it, and the two steps whose times were compared, if any."""

    target: str
    found: str
    ok: bool
    pair: tuple[str, ...] = ()


def check_all(rows: Sequence[Row]) -> list[Check]:
    """All targets of the benchmark; those on time only for rows that were timed."""
    by_key = {(row.num_tasks, row.system, row.num_groups): row for row in rows}
    checks = []
    for row in rows:
        checks += _check_counts(row)
        if row.system == 'stgu':
            checks += _check_against_released(row, by_key[row.num_tasks, 'released', row.num_groups])
    return checks + list(_check_growth(rows))


def _check_counts(row: Row) -> Iterator[Check]:
    """One forward, backward and step of the backbone per group; gd is one group."""
    counts, groups, tasks = row.counts, row.num_groups, row.num_tasks
    found = (counts.forwards, counts.probes, counts.backwards, counts.steps)
    yield _equal(row, 'forwards, probes, backwards, steps', found, (groups, 0, groups, groups))
    found = (counts.head_forwards, counts.head_backwards)
    yield _equal(row, 'head forwards, backwards', found, (groups * tasks, tasks))
    if row.system == 'released':
        return
    yield _equal(row, 'head forwards with graph', counts.head_forwards_with_graph, tasks)
    limit = READS_PER_STEP * groups
    yield Check(f'{_name(row)}: host reads <= {limit}', str(counts.host_reads), counts.host_reads <= limit)


def _check_against_released(row: Row, released: Row) -> Iterator[Check]:
    name, counts = _name(row), row.counts
    if row.update_difference is not None:
        difference = row.update_difference
        yield Check(
            f"{name}: update = the released loop's to {TOLERANCE:g}", f'{difference:.1e}', difference <= TOLERANCE
        )
    share = counts.flops / released.counts.flops
    yield Check(f"{name}: FLOPs <= the released loop's", f'{share:.6f}', counts.flops <= released.counts.flops)
    if row.to_released is not None:
        ok = row.to_released.median <= TIME_LIMIT
        yield Check(f"{name}: time <= {TIME_LIMIT} x the released loop's", str(row.to_released), ok)
    if row.num_groups == row.num_tasks >= MEMORY_LIMIT_FROM_TASKS:
        share = row.peak_bytes / released.peak_bytes
        yield Check(
            f"{name}: peak memory <= {MEMORY_LIMIT} x the released loop's", f'{share:.3f}', share <= MEMORY_LIMIT
        )


def _check_growth(rows: Sequence[Row]) -> Iterator[Check]:
    """At M = K, memory must not follow the number of tasks."""
    peaks = {row.num_tasks: row.peak_bytes for row in rows if row.system == 'stgu' and row.num_groups == row.num_tasks}
    if len(peaks) > 1:
        few, many = min(peaks), max(peaks)
        growth = peaks[many] / peaks[few] - 1
        target = f'stgu M=K: peak memory at K={many} within {MEMORY_GROWTH:.0%} of that at K={few}'
        yield Check(target, f'{growth:+.1%}', abs(growth) <= MEMORY_GROWTH)


def _equal(row: Row, what: str, found: Any, expected: Any) -> Check:
    return Check(f'{_name(row)}: {what} = {expected}', str(found), found == expected)


def _name(row: Row) -> str:
    return f'K={row.num_tasks} {row.system}' + ('' if row.system == 'gd' else f' M={row.num_groups}')


def make_table(rows: Sequence[Row], title: str) -> Table:
    """The figures for people."""
    table = Table(title=title, title_justify='left')
    for heading in ('K', 'loop', 'M'):
        table.add_column(heading)
    for heading in (
        'forwards', 'backwards', 'host reads', 'FLOPs / gd', 'time / gd', 'time / released', 'peak MiB',
        'peak / released',
    ):  # fmt: skip
        table.add_column(heading, justify='right')
    by_key = {(row.num_tasks, row.system, row.num_groups): row for row in rows}
    for row in rows:
        gd, released = by_key[row.num_tasks, 'gd', 1], by_key.get((row.num_tasks, 'released', row.num_groups))
        compared = row.system == 'stgu' and released is not None
        table.add_row(
            str(row.num_tasks),
            row.system,
            str(row.num_groups),
            str(row.counts.forwards),
            str(row.counts.backwards),
            str(row.counts.host_reads),
            f'{row.counts.flops / gd.counts.flops:.3f}',
            '-' if row.to_gd is None else '1' if row.system == 'gd' else str(row.to_gd),
            '-' if row.to_released is None else str(row.to_released),
            f'{row.peak_bytes / 2**20:.1f}',
            f'{row.peak_bytes / released.peak_bytes:.2f}' if compared else '-',
            end_section=row.num_groups == row.num_tasks and row.system == 'released',
        )
    return table


def to_json(rows: Sequence[Row], checks: Sequence[Check], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything, ready for :mod:`json`."""
    return dict(version=1, settings=settings, rows=[asdict(r) for r in rows], checks=[asdict(c) for c in checks])
