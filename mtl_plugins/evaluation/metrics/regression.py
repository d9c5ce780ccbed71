"""Errors of tasks that regress plain numbers."""

from collections.abc import Mapping

import numpy as np

from mtl_plugins.registry import METRICS

from .base import NAN, DenseMetric, ratio


@METRICS.register_module()
class RegressionMetric(DenseMetric):
    """``L1`` (mean absolute error), ``MSE`` and ``RMSE`` over all valid pixels and channels.

    ``L1`` and ``RMSE`` are in the unit of the target, ``MSE`` in its square. A pixel with NaN in any channel of its
    target does not count.

    Args:
        task: Key of a task of kind ``'regression'``, ``'depth'`` or ``'normals'`` (Taskonomy's tables score all with
            these two numbers).
        **kwargs: See :class:`DenseMetric`.
    """

    kinds = ('regression', 'depth', 'normals')
    entries = {'L1': (None, False), 'MSE': ('', False), 'RMSE': (None, False)}

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return the number of valid entries and the sums of absolute and squared errors."""
        error = pred[:, valid].astype(np.float64) - target[:, valid]
        return dict(
            count=np.array(error.size, dtype=np.int64),
            absolute=np.array(np.abs(error).sum()),
            squared=np.array((error**2).sum()),
        )

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return the metrics, NaN if no pixel is valid or a prediction is not finite."""
        if total is None:
            return dict.fromkeys(self.entries, NAN)
        squared = ratio(total['squared'], total['count'])
        return dict(L1=ratio(total['absolute'], total['count']), MSE=squared, RMSE=squared**0.5)

    def describe(self, name: str) -> tuple[str, bool | None]:
        """Return the unit and the direction of metric ``name``."""
        if name == 'MSE' and self.spec.unit:
            return f'{self.spec.unit}²', False
        return super().describe(name)
