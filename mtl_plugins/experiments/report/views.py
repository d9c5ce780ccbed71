"""Further views of a comparison: how settings were chosen, all variants at shared ones, and the mean over settings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..compare.keys import label
from ..compare.records import RecordStore
from ..compare.variants import SINGLE
from ..compare.views import choices, tuning_of
from . import tables
from .comparison import MATCH, Comparison
from .pairing import reach

MOST_POINTS = 6
"""Settings beside each other in a table."""


def tuning_tables(store: RecordStore) -> list[tables.Table]:
    """What every variant was tried with on the held-out part, and what was chosen; empty if nothing was tuned."""
    tuning, found = tuning_of(store), choices(store)
    if tuning is None or not found:
        return []
    names = [f'{name} ({task})' if task else name for name, task in found]
    points = [label(point) for point in tuning.points()]
    runs = f'{100 * tuning.share:g} % of the training set, seeds {", ".join(map(str, tuning.seeds))}'
    made = []
    for part in (points[start : start + MOST_POINTS] for start in range(0, len(points), MOST_POINTS)):
        columns = [('variant', names)]
        for at in part:
            columns.append((at, [tables.signed(choice.scores.get(at, math.nan)) for choice in found.values()]))
        best = np.array([[choice.at == at for at in part] for choice in found.values()])
        caption = f'Change against the best settings of each task in percent, mean, on the held-out part ({runs})'
        made.append(tables.make_table(caption, columns, None, best))
    columns = [('variant', names)]
    columns += [('chosen', [choice.at or 'nothing: no run gave a result' for choice in found.values()])]
    columns += [('at the border of the grid', [', '.join(choice.border) or 'no' for choice in found.values()])]
    tried = [sum(not math.isnan(score) for score in choice.scores.values()) for choice in found.values()]
    columns += [('tried', [f'{count} of {len(points)} values' for count in tried])]
    return [tables.make_table('Settings that the runs on the whole training set have', columns), *made]


def shared_tables(comparison: Comparison, at: str) -> list[tables.Table]:
    """The scores and differences of all variants at shared settings."""
    found = [tables.results_tables(comparison)[0], *tables.pairs_tables(comparison) * bool(comparison.reference)]
    return [table._replace(caption=f'{table.caption}, all at {at}') for table in found]


def mean_table(comparisons: Mapping[str, Comparison]) -> tables.Table:
    """Scores in each setting, and the means over all settings of what can be had in each of them.

    Intervals are of the means over the settings per seed, for the seeds that all settings have.
    """
    every = list(comparisons.values())
    names = [name for name in every[0].summary.index if all(name in each.summary.index for each in every)]
    columns: list[tuple[str, Any]] = [('variant', names)]
    for title, comparison in comparisons.items():
        means = comparison.summary['score_percent_mean'].reindex(names)
        columns.append((f'{title}: {comparison.score} (%)', list(map(tables.signed, means))))
    views = [('mean over the settings', _references)]
    views += [('over ordinary training, equal batches', lambda one, name: one.summary.loc[name, 'equal_batches'])]
    views += [('over ordinary training, equal compute', _equal_compute)]
    for head, other in views:
        columns.append((head, [_mean(every, name, other) for name in names]))
    return tables.make_table('Scores in each setting, and means over the settings with 95 % intervals', columns)


def _references(comparison: Comparison, name: str) -> str | None:
    return SINGLE if comparison.reference else ''


def _equal_compute(comparison: Comparison, name: str) -> str:
    row = comparison.summary.loc[name]
    return row['nearest_compute'] if 1 / MATCH <= row['compute_ratio'] <= MATCH else ''


def _mean(comparisons: Sequence[Comparison], name: str, other: Any) -> str:
    others = [other(comparison, name) for comparison in comparisons]
    if not all(others) or (others[0] == SINGLE and len({one.reference for one in comparisons}) > 1):
        return tables.NONE
    if others[0] == SINGLE:
        mean = np.mean([one.summary.loc[name, 'score_percent_mean'] for one in comparisons])
        found = [one.differences(name) for one in comparisons]
    else:
        found = [one.differences(name, each) for one, each in zip(comparisons, others)]
        mean = np.mean([each.mean() for each in found])
    seeds = pd.concat(found, axis=1).dropna().mean(axis=1)
    half = reach(len(seeds) - 1, seeds.std() / math.sqrt(len(seeds))) if len(seeds) > 1 else math.nan
    interval = f' ({tables.between(mean - half, mean + half)})' * math.isfinite(half)
    interval = interval.replace(' to ', '\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}')  # goes to the next line as a whole
    return tables.signed(mean) + interval
