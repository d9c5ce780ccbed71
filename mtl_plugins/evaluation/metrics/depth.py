"""Depth errors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtl_plugins.registry import METRICS
from mtl_plugins.utils.argument_types import Positive

from .base import NAN, DenseMetric, ratio

SMALLEST_DEPTH = 1e-9
THRESHOLD = 1.25


@METRICS.register_module()
class DepthErrorMetric(DenseMetric):
    """Depth errors, each one pool over all valid pixels of the dataset (not a mean over images).

    With ``p`` the prediction and ``d`` the target: ``RMSE`` (metres); ``log_RMSE``, that of the natural logarithms;
    ``abs_rel``, the mean of ``|p - d| / d``; ``sq_rel``, the mean of ``(p - d)^2 / d`` (metres); ``delta<k>``, the
    percentage of pixels with ``max(p/d, d/p) < 1.25^k`` (Eigen et al., 2014). Predictions of 0 or less count as 1e-9 m.
    Pixels with depth 0 or NaN do not count.

    Args:
        task: Key of a task of kind ``'depth'``.
        max_depth: Leave out pixels whose true depth is larger (metres); None keeps all.
        **kwargs: See :class:`DenseMetric`.

    Example:
        >>> import torch
        >>> from mtl_plugins.evaluation.metrics import DepthErrorMetric
        >>> metric = DepthErrorMetric('depth')
        >>> metric.process({}, [dict(gt_depth=torch.full((1, 2, 2), 2.0), pred_depth=torch.full((1, 2, 2), 2.5))])
        >>> metric.evaluate(size=1)['depth/RMSE']
        0.5
    """

    kinds = ('depth',)
    entries = {
        'RMSE': (None, False),
        'log_RMSE': ('', False),
        'abs_rel': ('', False),
        'sq_rel': (None, False),
        'delta1': ('%', True),
        'delta2': ('%', True),
        'delta3': ('%', True),
    }

    def __init__(self, task: str = 'depth', max_depth: Positive | None = None, **kwargs) -> None:
        super().__init__(task, **kwargs)
        self.max_depth = max_depth

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return the number of valid pixels, the sums of the errors and the hits per threshold."""
        if self.max_depth is not None:
            valid = valid & (np.where(valid, target[0], np.inf) <= self.max_depth)
        true = target[0][valid].astype(np.float64)
        guess = pred[0][valid].astype(np.float64)
        # Sums of an image with a prediction that is not finite are NaN, and so will be the result.
        broken = 0.0 if np.isfinite(guess).all() else NAN
        guess = np.where(guess > 0, guess, SMALLEST_DEPTH)
        error, factor = guess - true, guess / true
        worse = np.maximum(factor, 1 / factor)
        sums = dict(
            squared=np.square(error),
            logarithmic=np.square(np.log(factor)),
            relative=np.abs(error) / true,
            squared_relative=np.square(error) / true,
        )
        hits = [np.count_nonzero(worse < THRESHOLD**power) for power in (1, 2, 3)]
        return dict(
            count=np.array(true.size, dtype=np.int64),
            hits=np.array(hits, dtype=np.float64) + broken,
            **{name: np.array(values.sum() + broken) for name, values in sums.items()},
        )

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return the metrics, NaN if no pixel is valid or a prediction is not finite."""
        if total is None:
            return dict.fromkeys(self.entries, NAN)
        count = total['count']
        return dict(
            RMSE=ratio(total['squared'], count) ** 0.5,
            log_RMSE=ratio(total['logarithmic'], count) ** 0.5,
            abs_rel=ratio(total['relative'], count),
            sq_rel=ratio(total['squared_relative'], count),
            **{f'delta{k + 1}': ratio(100 * hits, count) for k, hits in enumerate(total['hits'])},
        )
