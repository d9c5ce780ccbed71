"""Depth errors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtl_plugins.registry import METRICS

from .base import NAN, DenseMetric, ratio

SMALLEST_DEPTH = 1e-9
THRESHOLD = 1.25


@METRICS.register_module()
class DepthErrorMetric(DenseMetric):
    """``RMSE`` (metres), ``abs_rel`` and ``delta1..3`` (percent), each one pool over all valid pixels.

    ``abs_rel`` is the mean of ``|p - d| / d`` and ``delta<k>`` the share of pixels with ``max(p/d, d/p) < 1.25^k``
    (Eigen et al., 2014). Predictions are clamped at 0 first. Pixels with depth 0 or NaN do not count.

    Args:
        task: Key of a task of kind ``'depth'``.
        max_depth: Leave out pixels whose true depth is larger (metres); None keeps all.
        **kwargs: See :class:`DenseMetric`.
    """

    kinds = ('depth',)
    entries = {
        'RMSE': (None, False),
        'abs_rel': ('', False),
        'delta1': ('%', True),
        'delta2': ('%', True),
        'delta3': ('%', True),
    }

    def __init__(self, task: str = 'depth', max_depth: float | None = None, **kwargs) -> None:
        super().__init__(task, **kwargs)
        if max_depth is not None and max_depth <= 0:
            raise ValueError(f'DepthErrorMetric: max_depth must be positive (metres) or None, but got {max_depth}')
        self.max_depth = max_depth

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return the number of valid pixels and the sums of squared and relative errors and of the hits."""
        if self.max_depth is not None:
            valid = valid & (np.where(valid, target[0], np.inf) <= self.max_depth)
        true = target[0][valid].astype(np.float64)
        guess = pred[0][valid].astype(np.float64)
        broken = 0.0 if np.isfinite(guess).all() else NAN
        guess = np.maximum(guess, 0)
        error = guess - true
        guess = np.maximum(guess, SMALLEST_DEPTH)
        factor = np.maximum(guess / true, true / guess)
        hits = [np.count_nonzero(factor < THRESHOLD**power) for power in (1, 2, 3)]
        return dict(
            count=np.array(true.size, dtype=np.int64),
            squared=np.array((error**2).sum() + broken),
            relative=np.array((np.abs(error) / true).sum() + broken),
            hits=np.array(hits, dtype=np.float64) + broken,
        )

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return the metrics, NaN if no pixel is valid or a prediction is not finite."""
        if total is None:
            return dict.fromkeys(self.entries, NAN)
        count = total['count']
        metrics = dict(RMSE=ratio(total['squared'], count) ** 0.5, abs_rel=ratio(total['relative'], count))
        metrics.update({f'delta{k + 1}': ratio(100 * hits, count) for k, hits in enumerate(total['hits'])})
        return metrics
