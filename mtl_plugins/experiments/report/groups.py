"""Which tasks shared groups, and whether other seeds say the same."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from . import tables
from .comparison import Comparison
from .pairing import NAN

_SHOWN = 3
"""Pairs of tasks that are named."""


def records_with(comparison: Comparison, part: str) -> dict[str, list[dict[str, Any]]]:
    """Variant -> the records of its runs that have ``part``; single-task models are left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in comparison.records:
        if record.get(part) and record['task'] is None:
            found.setdefault(record['variant'], []).append(record)
    return found


def agreement_table(comparison: Comparison) -> tables.Table:
    """One row per variant with groups: what its seeds agree on, and the pairs of tasks that most often shared a group.

    Agreement is the mean over every two seeds of Spearman's correlation, of the affinities off the diagonal and of how
    often each pair of tasks shared a group.
    """
    rows = []
    for name, runs in records_with(comparison, 'affinity').items():
        tasks = runs[0]['affinity']['tasks']
        runs = [run for run in runs if run['affinity']['tasks'] == tasks]
        off = ~np.eye(len(tasks), dtype=bool)
        maps = [np.array(run['affinity']['matrix'], dtype=float)[off] for run in runs]
        shares = [(run.get('groups') or {}).get('together') for run in runs]
        shares = [np.array(share, dtype=float) for share in shares if share]
        upper = np.triu(off)
        text = tables.NONE
        if shares:
            mean = np.mean(shares, axis=0)
            pairs = sorted(zip(*np.nonzero(upper)), key=lambda pair: -mean[pair])[:_SHOWN]
            text = ', '.join(f'{tasks[i]} + {tasks[j]} {mean[i, j]:.0%}' for i, j in pairs)
        agree = [_agreement(maps), _agreement([share[upper] for share in shares])]
        told = (*map(tables.signed, agree), text)
        if set(told) != {tables.NONE}:
            rows.append((name, str(len(runs)), *told))
    heads = ['variant', 'runs', 'affinity', 'groups', 'most often in one group (share of the training)']
    return tables.Table('Rank correlation between the seeds: 1 is the same order, 0 is chance', heads, rows)


def _agreement(vectors: Sequence[np.ndarray]) -> float:
    """Mean rank correlation of every two; not a number if fewer than two of them vary."""
    vectors = [vector for vector in vectors if vector.size and np.isfinite(vector).all() and np.ptp(vector)]
    found = [stats.spearmanr(one, other).statistic for one, other in itertools.combinations(vectors, 2)]
    return float(np.mean(found)) if found else NAN
