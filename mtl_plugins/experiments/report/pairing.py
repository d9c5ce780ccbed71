"""Differences between variants: paired by seed, with Student's interval, and how many seeds would tell one."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

NAN = float('nan')
LEVEL = 0.95
"""Confidence of all intervals."""
POWER = 0.8
"""Chance to tell a difference that is there, for :func:`seeds_needed`."""
MOST_SEEDS = 10_000


class Gap(NamedTuple):
    """A difference of two mean scores, in points.

    Attributes:
        mean: The difference.
        low: Lower end of its interval; NaN if there are too few runs.
        high: Upper end.
        pairs: Seeds that both have, on which alone it rests; 0 if it is not paired.
        deviation: Standard deviation of the differences per seed; NaN if it is not paired.
    """

    mean: float = NAN
    low: float = NAN
    high: float = NAN
    pairs: int = 0
    deviation: float = NAN


def gap(first: pd.Series, second: pd.Series, same_start: bool = True) -> Gap:
    """The difference of two variants.

    Seeds that both have are paired: what a seed does to all variants alike drops out of the difference. Without such
    seeds, or if runs of one seed began differently, it is that of two independent samples (Welch).

    Args:
        first: Scores by seed.
        second: Scores by seed of what it is compared with.
        same_start: Whether runs of one seed had the same first weights and samples.
    """
    first, second = first.dropna(), second.dropna()
    differences = (first - second).dropna()
    pairs = len(differences)
    if same_start and (pairs > 1 or 0 < pairs == min(len(first), len(second))):
        half = reach(pairs - 1, differences.std() / np.sqrt(pairs))
        mean = differences.mean()
        return Gap(mean, mean - half, mean + half, pairs, differences.std())
    if first.empty or second.empty:
        return Gap()
    both = (first, second)
    half = reach(*satterthwaite([each.var() / len(each) for each in both], [len(each) - 1 for each in both]))
    mean = first.mean() - second.mean()
    return Gap(mean, mean - half, mean + half)


def every_pair(
    names: Iterable[str], scores: Callable[[str], pd.Series], same_start: Callable[[str, str], bool]
) -> pd.DataFrame:
    """The differences of all variants, in both directions; none where one of the two has no score.

    Args:
        names: The variants.
        scores: Variant -> its scores by seed.
        same_start: Whether runs of one seed of two variants had the same first weights and samples.

    Returns:
        One row per variant and other one, in the order of ``names``: ``variant``, ``other`` and the fields of
        :class:`Gap`.
    """
    names = list(names)
    rows = []
    for first, second in combinations(names, 2):
        found = gap(scores(first), scores(second), same_start(first, second))
        if np.isfinite(found.mean):
            rows.append((first, second, *found))
            rows.append((second, first, -found.mean, -found.high, -found.low, *found[3:]))
    table = pd.DataFrame(rows, columns=['variant', 'other', *Gap._fields])
    places = {name: place for place, name in enumerate(names)}
    return table.sort_values(['variant', 'other'], key=lambda names: names.map(places), ignore_index=True)


def satterthwaite(variances: Sequence[float], freedoms: Sequence[int]) -> tuple[float, float]:
    """Degrees of freedom and standard error of a sum of independent means, by the variances of these."""
    parts, freedom = np.array(variances, float), np.array(freedoms, float)
    # Without any spread the degrees of freedom do not matter.
    degrees = parts.sum() ** 2 / (parts**2 / np.where(freedom > 0, freedom, NAN)).sum() if parts.sum() else 1.0
    return degrees, np.sqrt(parts.sum())


def reach(freedom: Any, error: Any) -> Any:
    """Half the width of Student's interval."""
    return stats.t.ppf((1 + LEVEL) / 2, freedom) * error


def seeds_needed(deviation: float, difference: float) -> float:
    """The number of paired seeds that tells a difference with :data:`POWER`; NaN if the deviation is unknown.

    Args:
        deviation: Standard deviation of the differences per seed.
        difference: The difference, in the same unit, above 0.

    Returns:
        The smallest number of seeds n with ``(t_0.975 + t_0.8) * deviation / sqrt(n) <= difference``, quantiles with
        n - 1 degrees of freedom; infinity beyond :data:`MOST_SEEDS`.
    """
    if np.isnan(deviation):
        return NAN
    counts, widths = _widths()
    enough = counts[widths * deviation <= difference]
    return float(enough[0]) if len(enough) else float('inf')


@functools.cache
def _widths() -> tuple[np.ndarray, np.ndarray]:
    counts = np.arange(2, MOST_SEEDS + 1)
    quantiles = stats.t.ppf((1 + LEVEL) / 2, counts - 1) + stats.t.ppf(POWER, counts - 1)
    return counts, quantiles / np.sqrt(counts)


def differing_starts(records: Sequence[Mapping[str, Any]]) -> tuple[dict[int, list[str]], int]:
    """Where runs of one seed did not begin with the same weights, or saw other samples.

    Args:
        records: Records of variants, without single-task models.

    Returns:
        Seed -> names of the variants that differ from most others of that seed; and how many runs do not say.
    """
    alike: dict[int, list[list[Mapping[str, Any]]]] = {}
    told = [record for record in records if record.get('start')]
    for record in told:
        groups = alike.setdefault(record['seed'], [])
        group = next((group for group in groups if _began_alike(group[0]['start'], record['start'])), None)
        if group is None:
            groups.append([record])
        else:
            group.append(record)
    found = {}
    for seed, groups in alike.items():
        most = max(groups, key=len)
        others = [record['variant'] for group in groups if group is not most for record in group]
        found |= {seed: others} if others else {}
    return found, len(records) - len(told)


def _began_alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two runs had the same first weights and, as far as both went, the same samples."""
    counts = first['samples'].keys() & second['samples'].keys()
    same = all(first['samples'][count] == second['samples'][count] for count in counts)
    return first['weights'] == second['weights'] and same
