"""Angular errors of surface normals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtl_plugins.registry import METRICS

from .base import NAN, DenseMetric, ratio

LIMITS = (11.25, 22.5, 30.0)
BIN = 0.05
"""Width in degrees of the histogram from which the pooled median is read."""
BINS = round(180 / BIN)


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
    """``mean`` and ``median`` angular error (degrees) and the percentage below 11.25, 22.5 and 30 degrees.

    All are pooled over the valid pixels of the data set. The median is read from a histogram with bins of 0.05
    degrees, so that no pixel has to be kept; it is at most one bin off.

    Args:
        task: Key of a task of kind ``'normals'``.
        **kwargs: See :class:`DenseMetric`.
    """

    kinds = ('normals',)
    entries = {'mean': ('deg', False), 'median': ('deg', False), **{f'{limit:g}': ('%', True) for limit in LIMITS}}

    def __init__(self, task: str = 'normals', **kwargs) -> None:
        super().__init__(task, **kwargs)

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return the number of pixels, the sum of angles, the hits per limit and the histogram of angles."""
        if pred.shape[0] != 3 or target.shape[0] != 3:
            raise ValueError(f'normals must have three channels, but got {pred.shape[0]} and {target.shape[0]}')
        with np.errstate(invalid='ignore'):
            angles = angular_error(pred[:, valid], target[:, valid])
        hits = [np.count_nonzero(angles < limit) for limit in LIMITS]
        bins = np.minimum(np.nan_to_num(angles / BIN).astype(np.int64), BINS - 1)
        return dict(
            count=np.array(angles.size, dtype=np.int64),
            angle=np.array(angles.sum()),
            hits=np.array(hits, dtype=np.int64),
            # 32 bits per image keep an entry small; the sum over images is made with 64.
            histogram=np.bincount(bins, minlength=BINS).astype(np.uint32),
        )

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return the metrics, NaN if no pixel is valid or a prediction is not finite."""
        if total is None or total['count'] == 0 or not np.isfinite(total['angle']):
            return dict.fromkeys(self.entries, NAN)
        metrics = dict(mean=ratio(total['angle'], total['count']), median=_histogram_median(total['histogram']))
        metrics.update({f'{limit:g}': ratio(100 * hits, total['count']) for limit, hits in zip(LIMITS, total['hits'])})
        return metrics


def _histogram_median(histogram: np.ndarray) -> float:
    """Return the median of the binned angles, interpolated inside its bin."""
    cumulated = np.cumsum(histogram, dtype=np.int64)
    half = cumulated[-1] / 2
    index = int(np.searchsorted(cumulated, half))
    below = cumulated[index - 1] if index else 0
    return (index + (half - below) / histogram[index]) * BIN
