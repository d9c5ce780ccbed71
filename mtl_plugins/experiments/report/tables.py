"""The tables of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ..compare.records import Key, describe_key
from .blocks import Cell, Table
from .comparison import Comparison, Pair
from .numbers import NONE, between, plain, signed, signed_spread, spread, times
from .results import Variant
from .statistics import Difference, Sample

SINGLE_NAME = 'single-task models'
_VERDICTS = {'ahead': 'ahead', 'behind': 'behind', 'undecided': 'not decided', 'unknown': NONE}
_FULL_TINT = 20.0
"""A change of so many percent has the full shade."""


def results_table(comparison: Comparison) -> Table:
    """Mean and standard deviation of every task, with delta_m and its interval."""
    columns = [
        'method',
        'runs',
        f'{_short(comparison)} (%)',
        '95 % interval',
        'compute',
        *map(_heading, comparison.tasks),
    ]
    best = {task.key: _best(comparison, task.key) for task in comparison.tasks}
    rows = []
    if any(comparison.single.values()):
        single = {key: Sample.of(run.last.values[key] for run in runs) for key, runs in comparison.single.items()}
        count = min(sample.count for sample in single.values())
        compute = comparison.single_compute / comparison.max_iters
        head = [_name(SINGLE_NAME, code=False), _count(count), Cell('0 by definition', 0.0), Cell(NONE)]
        rows.append([*head, _times(compute), *(Cell(spread(s), _sort(s.mean)) for s in single.values())])
    for variant in comparison.variants:
        results = {task.key: variant.result(task.key) for task in comparison.tasks}
        head = [_name(variant.name), _runs(variant), Cell(signed_spread(variant.score), _sort(variant.score.mean))]
        cells = [
            Cell(spread(sample), _sort(sample.mean), _tint(variant.change(key).mean), variant.name in best[key])
            for key, sample in results.items()
        ]
        compute = _times(variant.compute / comparison.max_iters)
        rows.append([*head, Cell(between(variant.score.interval)), compute, *cells])
    return Table('Headline metric of each task after training, mean ± standard deviation over the runs', columns, rows)


def changes_table(comparison: Comparison) -> Table:
    """Relative change of each task."""
    rows = []
    for variant in comparison.variants:
        changes = {task.key: variant.change(task.key) for task in comparison.tasks}
        cells = [Cell(signed_spread(s), _sort(s.mean), _tint(s.mean)) for s in changes.values()]
        rows.append([_name(variant.name), *cells])
    caption = f'Change of each task against the {comparison.reference.words} in percent, positive where better'
    return Table(caption, ['method', *(task.title for task in comparison.tasks)], rows)


def cost_table(comparison: Comparison) -> Table:
    """What every method takes."""
    columns = ['method', 'compute per iteration', 'forwards', 'backwards', 'groups', 's per iteration', 'memory (MiB)']
    columns += ['compute in all']
    rows = [_cost_row(variant, comparison) for variant in _by_compute(comparison.variants)]
    return Table('Cost per iteration; ordinary training (one forward, one backward) is 1.00×', columns, rows)


def pairs_table(comparison: Comparison) -> Table:
    """Every method beside ordinary training at equal batches and at the nearest compute."""
    columns = ['method', 'compute', 'over ordinary training, equal batches', 'verdict']
    columns += ['ordinary training of nearest compute', 'its compute', 'over it', 'verdict']
    rows = []
    for pair in comparison.pairs():
        batches, compute = pair.over_batches, pair.over_compute
        row = [_name(pair.variant.name), _times(pair.variant.compute / comparison.max_iters)]
        rows.append([*row, *_gap(batches), *_nearest(pair, comparison), *_gap(compute, pair.matched)])
    caption = 'Differences of the mean in percentage points, with 95 % intervals after Welch'
    return Table(caption, columns, rows)


def gaps_table(comparison: Comparison) -> Table:
    """Failed and missing runs."""
    rows = [[_name(describe_key(key)), Cell('failed'), Cell(error)] for key, error in _sorted_items(comparison.errors)]
    for (name, task), seeds in _by_variant(comparison.missing).items():
        text = f'not in the results file: {"seed" if len(seeds) == 1 else "seeds"} {", ".join(map(str, seeds))}'
        rows.append([_name(f'{name} ({task})' if task else name), Cell('missing'), Cell(text)])
    for variant in comparison.variants:
        for run in variant.runs:
            blank = [task.title for task in comparison.tasks if not math.isfinite(run.last.values[task.key])]
            if blank:
                text = f'no number for {", ".join(blank)} at the end'
                rows.append([_name(describe_key((variant.name, run.seed, None))), Cell('undefined'), Cell(text)])
    return Table('Runs without a result', ['run', 'state', 'what is known'], rows, words=True)


def _by_variant(keys: Iterable[Key]) -> dict[tuple[str, str | None], list[int]]:
    seeds: dict[tuple[str, str | None], list[int]] = {}
    for name, seed, task in keys:
        seeds.setdefault((name, task), []).append(seed)
    return seeds


def _sorted_items(errors: Mapping[Key, str]) -> list[tuple[Key, str]]:
    return sorted(errors.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or ''))


def _cost_row(variant: Variant, comparison: Comparison) -> list[Cell]:
    forwards = variant.per_iteration(lambda point: point.cost.get('forwards'))
    backwards = variant.per_iteration(lambda point: point.cost.get('backwards'))
    seconds = variant.per_iteration(lambda point: point.cost.get('seconds'))
    groups = variant.groups.mean
    cells = [(times(variant.relative_compute), variant.relative_compute)]
    cells += [(plain(value, 3), value) for value in (forwards, backwards, groups, seconds)]
    cells += [(plain(variant.memory), variant.memory)]
    cells += [(times(variant.compute / comparison.max_iters), variant.compute)]
    return [_name(variant.name), *(Cell(text, _sort(value)) for text, value in cells)]


def _by_compute(variants: Iterable[Variant]) -> list[Variant]:
    def key(variant: Variant) -> tuple[bool, float, str]:
        known = math.isfinite(variant.relative_compute)
        return not known, variant.relative_compute if known else 0.0, variant.name

    return sorted(variants, key=key)


def _nearest(pair: Pair, comparison: Comparison) -> list[Cell]:
    other = pair.equal_compute
    if other is None:
        return [Cell(NONE), Cell(NONE)]
    remark = '' if pair.matched else ' (no match)'
    return [Cell(f'`{other.name}`{remark}', other.name), _times(other.compute / comparison.max_iters)]


def _gap(gap: Difference, valid: bool = True) -> list[Cell]:
    text = signed(gap.mean) + (f' ({between(gap.interval)})' if gap.interval else '')
    verdict = gap.verdict if valid else 'unknown'
    tint = {'ahead': 0.6, 'behind': -0.6}.get(verdict, 0.0)
    word = _VERDICTS[verdict] if valid or not math.isfinite(gap.mean) else 'unequal compute'
    return [Cell(text, _sort(gap.mean)), Cell(word, word, tint)]


def _heading(task) -> str:
    name = task.metric.split('/', 1)[-1]
    arrow = '↑' if task.higher_is_better else '↓'
    return f'{task.title}: {name}{f" ({task.unit})" if task.unit else ""} {arrow}'


def _short(comparison: Comparison) -> str:
    return 'delta_m' if comparison.reference is None or comparison.reference.single_task else 'change'


def _best(comparison: Comparison, task: str) -> set[str]:
    known = {v.name: v.result(task).mean for v in comparison.variants if v.result(task).count}
    if len(known) < 2:
        return set()
    up = next(t.higher_is_better for t in comparison.tasks if t.key == task)
    top = (max if up else min)(known.values())
    return {name for name, value in known.items() if value == top}


def _name(name: str, code: bool = True) -> Cell:
    return Cell(f'`{name}`' if code else name, name)


def _runs(variant: Variant) -> Cell:
    count = len(variant.runs)
    return Cell(f'{count} ({variant.score.undefined} undefined)' if _undefined(variant) else str(count), float(count))


def _undefined(variant: Variant) -> bool:
    return variant.reference is not None and variant.score.undefined > 0


def _count(count: int) -> Cell:
    return Cell(str(count), float(count))


def _times(value: float) -> Cell:
    return Cell(times(value), _sort(value))


def _sort(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _tint(change: float) -> float:
    return max(-1.0, min(1.0, change / _FULL_TINT)) if math.isfinite(change) else 0.0
