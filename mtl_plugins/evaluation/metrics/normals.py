"""Angular errors of surface normals."""

from collections.abc import Mapping

import numpy as np

from mtl_plugins.registry import METRICS

from .base import NAN, DenseMetric, ratio

LIMITS = (11.25, 22.5, 30.0)
FINE, FINE_UNTIL, COARSE = 0.01, 60, 0.1
"""Bin widths in degrees, below and above 60 degrees, of the histogram from which the pooled median is read."""
FINE_BINS = round(FINE_UNTIL / FINE)
BINS = FINE_BINS + round((180 - FINE_UNTIL) / COARSE)


def angular_error(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the angles in degrees between the columns of two arrays ``(3, N)``.

    Both are normalised; the angle is ``2 atan2(|a - b|, |a + b|)``, which is exact near 0 and 180 degrees, where the
    arc cosine loses all digits. A zero prediction is 90 degrees off.
    """
    pred, target = (_normalised(vectors.astype(np.float64)) for vectors in (pred, target))
    difference = np.linalg.norm(pred - target, axis=0)
    total = np.linalg.norm(pred + target, axis=0)
    return np.degrees(2 * np.arctan2(difference, total))


def _normalised(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=0)
    return vectors / np.where(length > 0, length, 1)


@METRICS.register_module()
class NormalsMetric(DenseMetric):
    """``mean``, ``median`` and ``RMSE`` of the angular error (degrees), and the share below 11.25, 22.5 and 30 degrees.

    All are pooled over the valid pixels of the dataset. The median is read from a histogram, so that no pixel has to
    be kept: it is at most 0.01 degrees off where it (both middle angles, of an even number of pixels) is below 60
    degrees, and at most 0.1 degrees above. All others are exact. An image needs about 15 kB until the evaluation ends.

    Args:
        task: Key of a task of kind ``'normals'``.
        **kwargs: See :class:`DenseMetric`.
    """

    kinds = ('normals',)
    entries = {
        'mean': ('deg', False),
        'median': ('deg', False),
        'RMSE': ('deg', False),
        **{f'{limit:g}': ('%', True) for limit in LIMITS},
    }

    def __init__(self, task: str = 'normals', **kwargs) -> None:
        super().__init__(task, **kwargs)

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return the number of pixels, the sums of angles and their squares, the hits per limit and the histogram."""
        with np.errstate(invalid='ignore'):
            angles = angular_error(pred[:, valid], target[:, valid])
        hits = [np.count_nonzero(angles < limit) for limit in LIMITS]
        histogram = np.bincount(_bins(np.nan_to_num(angles)), minlength=BINS)
        return dict(
            count=np.array(angles.size, dtype=np.int64),
            angle=np.array(angles.sum()),
            squared=np.array(np.square(angles).sum()),
            hits=np.array(hits, dtype=np.int64),
            # The smallest type keeps an entry small; the sum over images is made with 64 bits.
            histogram=histogram.astype(np.min_scalar_type(histogram.max())),
        )

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return the metrics, NaN if no pixel is valid or a prediction is not finite."""
        if total is None or total['count'] == 0 or not np.isfinite(total['angle']):
            return dict.fromkeys(self.entries, NAN)
        count = total['count']
        return dict(
            mean=ratio(total['angle'], count),
            median=_histogram_median(total['histogram']),
            RMSE=ratio(total['squared'], count) ** 0.5,
            **{f'{limit:g}': ratio(100 * hits, count) for limit, hits in zip(LIMITS, total['hits'])},
        )


def _bins(angles: np.ndarray) -> np.ndarray:
    """Return the bin of each angle."""
    coarse = FINE_BINS + (angles - FINE_UNTIL) / COARSE
    return np.minimum(np.where(angles < FINE_UNTIL, angles / FINE, coarse).astype(np.int64), BINS - 1)


def _histogram_median(histogram: np.ndarray) -> float:
    """Return the mean of the two middle angles (one, if their number is odd), interpolated inside their bins."""
    cumulated = np.cumsum(histogram, dtype=np.int64)
    count = int(cumulated[-1])
    middle = []
    for rank in ((count - 1) // 2, count // 2):
        index = int(np.searchsorted(cumulated, rank, side='right'))
        inside = (rank - cumulated[index] + histogram[index] + 0.5) / histogram[index]
        position = index + inside
        if index < FINE_BINS:
            middle.append(FINE * position)
        else:
            middle.append(FINE_UNTIL + COARSE * (position - FINE_BINS))
    return float(sum(middle) / 2)
