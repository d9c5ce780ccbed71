"""Numbers as they are printed."""

from __future__ import annotations

import math

from .statistics import Interval, Sample

NONE = '–'


def plain(value: float | None, digits: int = 4) -> str:
    """``digits`` significant digits, not more than there are before the point; a dash for no number."""
    if value is None or not math.isfinite(value):
        return NONE
    return f'{value:.{_decimals(value, digits)}f}'.replace('-', '−')


def spread(sample: Sample) -> str:
    """Mean and standard deviation with as many decimals."""
    if not sample.count:
        return NONE
    text = plain(sample.mean)
    if sample.deviation is None:
        return text
    return f'{text} ± {sample.deviation:.{_decimals(sample.mean, 4)}f}'


def signed(value: float | None, decimals: int = 2) -> str:
    """With a sign and a proper minus."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f'{value:+.{decimals}f}'
    return ('0' + text[2:] if float(text) == 0 else text).replace('-', '−')


def signed_spread(sample: Sample) -> str:
    """Signed mean and standard deviation."""
    text = signed(sample.mean)
    return text if sample.deviation is None else f'{text} ± {sample.deviation:.2f}'


def between(interval: Interval | None) -> str:
    """An interval."""
    return NONE if interval is None else f'{signed(interval[0])} to {signed(interval[1])}'


def times(value: float) -> str:
    """A factor."""
    return NONE if not math.isfinite(value) else f'{value:.2f}×'


def listed(names: list[str], most: int = 6) -> str:
    """Names in words: `a`, `b` and 3 more."""
    quoted = [f'`{name}`' for name in names]
    if len(quoted) > most:
        return f'{", ".join(quoted[:most])} and {len(quoted) - most} more'
    return ' and '.join(filter(None, [', '.join(quoted[:-1]), quoted[-1] if quoted else '']))


def counted(count: int, noun: str, plural: str = '') -> str:
    """``1 run``, ``3 runs``."""
    return f'{count} {noun if count == 1 else plural or noun + "s"}'


def _decimals(value: float, digits: int) -> int:
    if value == 0:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 6)
