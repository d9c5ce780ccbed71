"""Means, deviations and intervals over few runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

NAN = float('nan')
LEVEL = 0.95
"""Confidence of all intervals."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """The values of some runs.

    Args:
        values: The finite ones.
        undefined: How many more there are without a number, for example of a run that diverged.
    """

    values: tuple[float, ...]
    undefined: int = 0

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Sample:
        """Sort out what is not finite."""
        values = list(values)
        finite = tuple(float(value) for value in values if value is not None and math.isfinite(value))
        return cls(finite, len(values) - len(finite))

    @property
    def count(self) -> int:
        """Number of finite values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Their mean; NaN without any."""
        return math.fsum(self.values) / self.count if self.values else NAN

    @property
    def deviation(self) -> float | None:
        """Their standard deviation with n - 1 in the denominator; None for fewer than two."""
        if self.count < 2:
            return None
        mean = self.mean
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.values) / (self.count - 1))

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None for fewer than two values."""
        return None if self.deviation is None else self.deviation / math.sqrt(self.count)

    @property
    def interval(self) -> Interval | None:
        """Interval of Student's t for the mean; None for fewer than two values."""
        return None if self.error is None else _around(self.mean, self.error, self.count - 1)


@dataclass(frozen=True)
class Difference:
    """A difference of two means.

    Args:
        mean: The difference; NaN if one of the means is missing.
        interval: Its interval after Welch, which allows for unequal variances; None with fewer than two values on a
            side.
    """

    mean: float
    interval: Interval | None

    @property
    def verdict(self) -> str:
        """``'ahead'``, ``'behind'`` or ``'undecided'`` by the interval; ``'unknown'`` without one."""
        if self.interval is None:
            return 'unknown'
        low, high = self.interval
        return 'ahead' if low > 0 else 'behind' if high < 0 else 'undecided'


def difference(first: Sample, second: Sample) -> Difference:
    """Mean of ``first`` minus mean of ``second``."""
    mean = first.mean - second.mean
    if first.error is None or second.error is None:
        return Difference(mean, None)
    parts = [first.error**2, second.error**2]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Difference(mean, (mean, mean))
    freedom = sum(parts) ** 2 / sum(p**2 / (sample.count - 1) for p, sample in zip(parts, (first, second)))
    return Difference(mean, _around(mean, error, freedom))


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Mean of several curves at the places that all of them have; where one is not finite, it is left out there."""
    if not curves:
        return []
    shared = set.intersection(*({x for x, _ in curve} for curve in curves))
    lookups = [dict(curve) for curve in curves]
    return [(x, Sample.of(lookup[x] for lookup in lookups).mean) for x in sorted(shared)]


def _around(mean: float, error: float, freedom: float) -> Interval:
    reach = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return mean - reach, mean + reach
