"""The numbers of a comparison as two tables: every measured value, and one row per variant."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtl_plugins.errors import UserError
from mtl_plugins.evaluation.delta_m import relative_changes

from ..compare.variants import LENGTHS, SINGLE
from ..compare.views import Shown
from .pairing import NAN, Gap, differing_starts, gap, reach, satterthwaite, seeds_needed

MATCH = 1.25
"""Two amounts of compute count as equal up to this factor."""
RUN_COLUMNS = ['method', 'preset', 'options', 'seed', 'task', 'metric', 'unit', 'higher_is_better', 'iteration']
RUN_COLUMNS += ['value', 'change_percent', 'score_percent', 'forwards', 'backwards', 'compute', 'seconds', 'memory_mib']
"""Columns of ``runs.csv``."""
_COSTS = ['forwards', 'backwards', 'seconds', 'memory_mib']
_RUN = ['method', 'seed']


class Comparison:
    """What a report is made of.

    Attributes:
        tasks: Task -> ``title``, ``metric``, ``unit``, ``higher_is_better``.
        points: One row per run, validation and task, see :data:`RUN_COLUMNS`; ``last`` marks the end of a run.
            Single-task models are the method ``'single'``. ``compute`` counts a backward as two forwards, in iterations
            of ordinary training.
        runs: One row per run of a variant.
        summary: One row per variant, best first; those without a score are last, by name.
        single: The last values of the single-task models.
        reference: What results are measured against: ``'single-task models'``, else ``'ordinary training'``; ``''`` if
            there is nothing.
        baseline: Task -> ``mean``, ``sem`` and ``count`` of the reference.
        missing: Expected runs that are not there.
        errors: Why runs failed.
        differing: Seed -> variants whose runs did not begin, or go through the samples, as most others' did.
        silent: How many runs do not say how they began.
        told: Difference, in points, for which the summary says how many more seeds would tell it (``more_seeds``).

    Args:
        header: Of the results file.
        records: The finished runs.
        expected: Keys of the runs that were asked for.
        errors: Why runs failed.
        told: See the attribute.

    Raises:
        UserError: If there is no finished run of a variant.
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        records: Mapping[Shown, Mapping[str, Any]],
        expected: Sequence[Shown] = (),
        errors: Mapping[tuple, str] | None = None,
        told: float = 1.0,
    ) -> None:
        if len({key[:3] for key in records}) < len(records):
            raise ValueError('records: at most one run per variant, seed and task can stand in a report')
        records = {key[:3]: record for key, record in records.items()}
        if all(name == SINGLE for name, _, _ in records):
            raise UserError('there is no finished run of a method to report on; train at least one first')
        self.errors = _printable({key: text for key, text in (errors or {}).items() if key not in records})
        self.missing = _printable([key for key in expected if key not in records and key not in self.errors])
        header = _printable(header)
        self.records = _printable([records[key] for key in sorted(records, key=_order)])
        self.config, self.max_iters = header['config'], header['max_iters']
        self.tasks, self.told = header['tasks'], told
        self.differing, self.silent = differing_starts([r for r in self.records if r['task'] is None])
        self.points = self._points()
        last = self.points[self.points['last']]
        self.single = last[last['method'] == SINGLE]
        self.reference, self.baseline = self._reference(last[last['method'] != SINGLE])
        self._measure()
        self.runs = self._runs()
        self.summary = self._summary()
        self._compare_with_ordinary()

    @property
    def score(self) -> str:
        """Name of what variants are ranked by."""
        return 'mean change' if self.reference == 'ordinary training' else 'delta_m'

    def late_changes(self, share: float = 0.2) -> dict[str, float]:
        """How much the score of ordinary training changed at the end, which tells whether training was long enough."""
        ordinary, found = self.summary.index[self.summary['preset'] == 'gd'], {}
        for name, curve in self.curves('score_percent').items():
            if name in ordinary and len(curve) > 1:
                start = min(curve.index[:-1], key=lambda place: abs(place - (1 - share) * curve.index[-1]))
                found[name] = curve['y'].iloc[-1] - curve['y'][start]
        return found

    @property
    def single_compute(self) -> float:
        """Compute of all single-task models together; NaN if some task has none."""
        return self.single.groupby('task')['compute'].mean().reindex(list(self.tasks)).sum(skipna=False)

    @property
    def reference_error(self) -> float:
        """Standard error in percentage points that the noise of the reference puts on every score; NaN if unknown."""
        relative = self.baseline['sem'] / self.baseline['mean']
        return 100 * np.sqrt((relative**2).sum(skipna=False)) / len(self.tasks)

    def curves(self, column: str, task: str | None = None) -> dict[str, pd.DataFrame]:
        """Mean ``column`` and ``compute`` of each variant by iteration, where all of its runs have a validation."""
        points = self.points[self.points['method'] != SINGLE]
        points = points[points['task'] == (task or next(iter(self.tasks)))]
        means = points.groupby(['method', 'iteration']).agg(
            y=(column, 'mean'), compute=('compute', 'mean'), runs=('seed', 'nunique')
        )
        found = {}
        for name, curve in means.groupby(level='method'):
            curve = curve.droplevel('method')
            found[str(name)] = curve[(curve['runs'] == self.summary.loc[name, 'runs']) & curve['y'].notna()]
        return found

    def _points(self) -> pd.DataFrame:
        rows = []
        for record in self.records:
            head = dict(method=record['variant'], preset=record['method'], seed=record['seed'])
            head['options'] = json.dumps(record['options'], sort_keys=True)
            for place, entry in enumerate(record['curve'], start=1):
                costs = {name: number((entry.get('cost') or {}).get(name)) for name in _COSTS}
                for key, task in self.tasks.items():
                    if record['task'] in (None, key):
                        value = number(entry['metrics'].get(task['metric']))
                        row = dict(head, task=key, iteration=entry['iter'], value=value, **costs)
                        row.update({name: task[name] for name in ('metric', 'unit', 'higher_is_better')})
                        rows.append(dict(row, last=place == len(record['curve'])))
        points = pd.DataFrame(rows)
        passes = points['forwards'].fillna(0) + 2 * points['backwards']
        points['compute'] = (passes / 3).where(points['backwards'] > 0)
        return points

    def _reference(self, last: pd.DataFrame) -> tuple[str, pd.DataFrame]:
        plain = last[self._plain(last)]
        words, rows = ('ordinary training', plain) if self.single.empty else ('single-task models', self.single)
        found = rows.groupby('task')['value'].agg(['mean', 'sem', 'count']).reindex(list(self.tasks))
        # Over fewer tasks, or against something else for some, the mean would be another quantity.
        return (words, found) if found['mean'].fillna(0).all() else ('', found * NAN)

    @staticmethod
    def _plain(rows: pd.DataFrame) -> pd.Series:
        """Which rows are of ordinary training as the config has it; of the first variant, if there are several."""
        plain = (rows['preset'] == 'gd') & (rows['options'] == '{}')
        return plain & (rows['method'] == rows.loc[plain, 'method'].min())

    def _measure(self) -> None:
        """Set each value against the reference; the score is the mean over the tasks, undefined if one is."""
        points, base = self.points, self.baseline['mean'].to_dict()
        up = {key: task['higher_is_better'] for key, task in self.tasks.items()}
        changes = [
            NAN if name == SINGLE else relative_changes({task: value}, base, up)[task]
            for name, task, value in zip(points['method'], points['task'], points['value'])
        ]
        points['change_percent'] = changes
        grouped = points.groupby([*_RUN, 'iteration'])['change_percent']
        points['score_percent'] = grouped.transform('sum', min_count=len(up)) / len(up)

    def _runs(self) -> pd.DataFrame:
        """One row per run of a variant, at its end."""
        last = self.points[self.points['last'] & (self.points['method'] != SINGLE)]
        runs = last.drop_duplicates(_RUN).set_index(_RUN)
        for name in ('value', 'change_percent'):
            runs = runs.join(last.pivot(index=_RUN, columns='task', values=name).add_prefix(f'{name} '))
        groups = {(r['variant'], r['seed']): number(r['groups']['mean']) for r in self.records if r.get('groups')}
        runs['groups'] = [groups.get(key, NAN) for key in runs.index]
        runs['passes'] = [json.loads(text).get('passes') or 1 for text in runs['options']]
        return runs.reset_index()

    def _summary(self) -> pd.DataFrame:
        runs = self.runs
        for name in ('compute', 'forwards', 'backwards', 'seconds'):
            runs[f'{name}_per_iteration'] = runs[name] / runs['iteration']
        by = runs.groupby('method')
        table = by.agg(
            preset=('preset', 'first'),
            options=('options', 'first'),
            passes=('passes', 'first'),
            runs=('seed', 'size'),
            iterations=('iteration', 'max'),
            relative_compute=('compute_per_iteration', 'mean'),
            compute=('compute', 'mean'),
            seconds=('seconds', 'mean'),
            seconds_per_iteration=('seconds_per_iteration', 'mean'),
            forwards=('forwards_per_iteration', 'mean'),
            backwards=('backwards_per_iteration', 'mean'),
            memory_mib=('memory_mib', 'max'),
            groups=('groups', 'mean'),
        )
        samples = {'score_percent': 'score_percent'}
        samples.update({f'{key}_{name}': f'{name} {key}' for key in self.tasks for name in ('value', 'change_percent')})
        for name, column in samples.items():
            found = by[column].agg(['mean', 'std', 'count'])
            table[[f'{name}_mean', f'{name}_sd', f'{name}_n']] = found
        half = pd.Series({name: self._half(name) for name in table.index})
        table['score_percent_low'] = table['score_percent_mean'] - half
        table['score_percent_high'] = table['score_percent_mean'] + half
        table['backward_equivalents'] = 1.5 * table['compute']
        table['reference'] = self.reference
        by_compute = table.sort_values(['compute', 'score_percent_mean'], ascending=[True, False], kind='stable')
        scores = by_compute['score_percent_mean'].where(by_compute['compute'].notna())
        # On the front: no other has a higher mean with as little compute.
        table['on_front'] = scores > scores.cummax().shift(fill_value=-np.inf).ffill()
        return table.sort_values('score_percent_mean', ascending=False, kind='stable')

    def scores(self, name: str) -> pd.Series:
        """Scores of a variant by seed."""
        return self._by_name[name]

    @functools.cached_property
    def _by_name(self) -> dict[str, pd.Series]:
        scores = self.runs.set_index('seed')['score_percent']
        return {str(name): scores.iloc[places] for name, places in self.runs.groupby('method').indices.items()}

    def differences(self, name: str, other: str = '') -> pd.Series:
        """Scores of a variant minus those of another one, or of the reference, by the seeds that both have."""
        second = self.scores(other) if other else self._reference_scores
        return (self.scores(name) - second).dropna()

    def _half(self, name: str) -> float:
        """Half the width of the interval of a score, in which the noise of the reference counts, too."""
        own = self.scores(name).dropna()
        if self.reference == 'ordinary training':
            plain = self.runs.loc[self._plain(self.runs), 'method'].iloc[0]
            found = gap(own, self._reference_scores, self.same_start(name, plain))
            return NAN if name == plain else (found.high - found.low) / 2
        paired = self.differences(name)
        if len(paired) == len(own):
            return reach(len(own) - 1, paired.std() / np.sqrt(len(own)))
        noise = (100 * self.baseline['sem'] / self.baseline['mean'] / len(self.tasks)) ** 2
        variances, freedoms = [own.var() / len(own)], [len(own) - 1]
        if noise.notna().all():
            variances, freedoms = variances + list(noise), freedoms + list(self.baseline['count'] - 1)
        return reach(*satterthwaite(variances, freedoms))

    @functools.cached_property
    def _reference_scores(self) -> pd.Series:
        """What the runs of the reference score that have one seed, by seed, where all tasks have one."""
        if self.reference == 'ordinary training':
            return self.runs[self._plain(self.runs)].set_index('seed')['score_percent']
        values = self.single.pivot_table(index='seed', columns='task', values='value').reindex(columns=list(self.tasks))
        base = self.baseline['mean']
        up = pd.Series({key: 1 if task['higher_is_better'] else -1 for key, task in self.tasks.items()})
        return (100 * up * (values - base) / base.abs()).mean(axis=1, skipna=False)

    def same_start(self, first: str, second: str) -> bool:
        """Whether no run of two variants is known to have begun differently from the others of its seed."""
        return not any(first in names or second in names for names in self.differing.values())

    def _compare_with_ordinary(self) -> None:
        """Add the differences to ordinary training at equal batches, at the nearest compute and the nearest time."""
        table = self.summary
        # The plain preset first, in case there are others with as many passes.
        ordinary = table[table['preset'] == 'gd'].assign(extra=lambda rows: rows['options'].map(len))
        ordinary = ordinary.sort_index().sort_values('extra', kind='stable')
        # Others may be nearer by chance, but are something else.
        longer = [set(json.loads(text)) <= {'passes', *LENGTHS} for text in ordinary['options']]
        ordinary = ordinary[longer] if any(longer) else ordinary
        machines = {name: self._machines(name) for name in table.index}
        found: dict[str, list[Any]] = {}
        for row in table.itertuples():
            same = ordinary.index[(ordinary['passes'] == 1) & (ordinary['iterations'] == row.iterations)]
            alike = ordinary.loc[np.array([machines[name] == machines[row.Index] for name in ordinary.index], bool)]
            views = {
                'equal_batches': same,
                'nearest_compute': _nearest(ordinary['compute'], row.compute),
                'nearest_time': _nearest(alike['seconds'], row.seconds),
            }
            for name, others in views.items():
                other = others[0] if len(others) and row.preset != 'gd' else ''
                start = bool(other) and self.same_start(row.Index, other)
                between = gap(self.scores(row.Index), self.scores(other), start) if other else Gap()
                more = seeds_needed(between.deviation, self.told) - between.pairs
                columns = ('', '_low', '_high', '_pairs', '_more_seeds')
                numbers = (*between[:4], max(more, 0.0) if more == more else NAN)
                found.setdefault(name, []).append(other)
                for column, value in zip(columns, numbers):
                    found.setdefault(f'over_{name}{column}', []).append(value)
        self.summary = pd.concat([table, pd.DataFrame(found, index=table.index)], axis=1)
        for name, amount in (('compute', 'compute'), ('time', 'seconds')):
            other = self.summary[f'nearest_{name}'].map(table[amount])
            self.summary[f'{name}_ratio'] = other / table[amount]

    def _machines(self, name: str) -> frozenset[str]:
        """Where the runs of a variant were made, as far as it matters for how long they took."""
        environments = [(r.get('environment') or {}).get('hardware') for r in self.records if r['variant'] == name]
        return frozenset(json.dumps(each, sort_keys=True) for each in environments)


def _nearest(amounts: pd.Series, amount: float) -> pd.Index:
    """Names by the distance of their amounts, as factors, without those that have none."""
    if not amount > 0:
        return amounts.index[:0]
    return np.log(amounts.where(amounts > 0) / amount).abs().sort_values(kind='stable').dropna().index


def verdict(low: float, high: float) -> str:
    """``'ahead'``, ``'behind'`` or ``'undecided'`` by the interval of a difference; ``''`` without one."""
    return '' if np.isnan(low) else 'ahead' if low > 0 else 'behind' if high < 0 else 'undecided'


def expected_keys(
    records: Mapping[Shown, Any], tasks: Sequence[str], names: Sequence[str], seeds: Sequence[int] | None, single: bool
) -> list[Shown]:
    """The runs that should be there.

    Args:
        records: Those that are.
        tasks: All tasks.
        names: Variants that were asked for. Empty: with ``seeds``, all of the records; without, any number of runs will
            do, because it may be intended that variants have different seeds.
        seeds: Seeds that were asked for; None: all of the records.
        single: Whether single-task models were asked for.
    """
    found = list(dict.fromkeys(name for name, _, _ in records if name != SINGLE))
    names = names or (found if seeds else [])
    single_seeds = seeds or sorted({seed for name, seed, _ in records if name == SINGLE})
    seeds = seeds or sorted({seed for name, seed, _ in records if name != SINGLE})
    singles = [(SINGLE, seed, task) for seed in single_seeds for task in tasks] if single else []
    return [*singles, *((name, seed, None) for name in names for seed in seeds)]


def number(value: float | None) -> float:
    """NaN for what is no number, and for those too large to be squared."""
    return float(value) if value is not None and abs(value) < 1e100 else NAN


def _printable(value: Any) -> Any:
    """All text of a results file with escapes for what has no place on a line, such as control characters."""
    if isinstance(value, str):
        return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(part) for key, part in value.items()}
    return type(value)(map(_printable, value)) if isinstance(value, list | tuple) else value


def _order(key: Shown) -> tuple[str, int, str]:
    return key[0], key[1], key[2] or ''
