"""The numbers of a report as CSV: one row per run, task and iteration, and one row per method."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..compare.variants import SINGLE
from .comparison import Comparison
from .results import Run
from .statistics import NAN, Sample

RUN_COLUMNS = ('method', 'preset', 'options', 'seed', 'task', 'metric', 'unit', 'higher_is_better', 'iteration')
RUN_COLUMNS += ('value', 'change_percent', 'score_percent', 'forwards', 'backwards', 'compute', 'seconds')
RUN_COLUMNS += ('memory_mib',)


def runs_csv(comparison: Comparison) -> str:
    """All runs, those of single-task models as the method ``single``; an empty field is no number.

    ``change_percent`` is that of the task against the reference at this iteration, ``score_percent`` the mean of all
    tasks (delta_m against single-task models), ``compute`` is in iterations of ordinary training.
    """
    rows = []
    for variant in sorted(comparison.variants, key=lambda variant: variant.name):
        head = dict(method=variant.name, preset=variant.method, options=json.dumps(variant.options, sort_keys=True))
        for run in variant.runs:
            for point in run.points:
                reference = comparison.reference
                changes = reference.changes(point.values, comparison.tasks) if reference else {}
                rows += _point_rows(comparison, head, run, point, changes, variant.score_of(point))
    for runs in comparison.single.values():
        for run in runs:
            for point in run.points:
                rows += _point_rows(comparison, dict(method=SINGLE, preset='gd', options='{}'), run, point, {}, NAN)
    return _to_csv(RUN_COLUMNS, rows)


def summary_csv(comparison: Comparison) -> str:
    """One row per method, in the order of the report."""
    front = comparison.front()
    pairs = {pair.variant.name: pair for pair in comparison.pairs()}
    rows: list[dict[str, Any]] = []
    for variant in comparison.variants:
        pair = pairs.get(variant.name)
        row = dict(method=variant.name, preset=variant.method, options=json.dumps(variant.options, sort_keys=True))
        row.update(runs=len(variant.runs), iterations=variant.iterations)
        row.update(reference=comparison.reference.words if comparison.reference else '')
        row.update(_sample('score_percent', variant.score))
        row['score_percent_low'], row['score_percent_high'] = variant.score.interval or (NAN, NAN)
        row['relative_compute'], row['compute'] = variant.relative_compute, variant.compute
        row['backward_equivalents'] = variant.compute * 1.5
        row['seconds_per_iteration'] = variant.per_iteration(lambda point: point.cost.get('seconds'))
        row['memory_mib'], row['groups'] = variant.memory, variant.groups.mean
        row['on_front'] = variant.name in front
        for name, other, gap in (
            ('equal_batches', pair and pair.equal_batches, pair and pair.over_batches),
            ('nearest_compute', pair and pair.equal_compute, pair and pair.over_compute),
        ):
            row[name] = other.name if other else ''
            row[f'over_{name}'] = gap.mean if gap else NAN
            row[f'over_{name}_low'], row[f'over_{name}_high'] = (gap and gap.interval) or (NAN, NAN)
        for task in comparison.tasks:
            row.update(_sample(task.metric, variant.result(task.key)))
            row[f'{task.key}_change_percent'] = variant.change(task.key).mean
        rows.append(row)
    return _to_csv(list(rows[0]), rows)


def _sample(name: str, sample: Sample) -> dict[str, Any]:
    return {f'{name}_mean': sample.mean, f'{name}_sd': sample.deviation, f'{name}_n': sample.count}


def _point_rows(
    comparison: Comparison, head: Mapping[str, Any], run: Run, point: Any, changes: Mapping[str, float], score: float
) -> Iterable[dict[str, Any]]:
    cost = {name: point.cost.get(name) for name in ('forwards', 'backwards', 'seconds', 'memory_mib')}
    for task in comparison.tasks:
        if task.key in point.values:
            yield dict(
                head,
                seed=run.seed,
                task=task.key,
                metric=task.metric,
                unit=task.unit,
                higher_is_better=task.higher_is_better,
                iteration=point.iteration,
                value=point.values[task.key],
                change_percent=changes.get(task.key, NAN),
                score_percent=score,
                compute=point.compute,
                **cost,
            )


def _to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator='\n')
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _field(row[name]) for name in columns})
    return stream.getvalue()


def _field(value: Any) -> Any:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ''
    return '' if value is None else value
