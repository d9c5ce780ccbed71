"""The trivial references."""

import numpy as np

from .gramian import GramianAggregator, Products


class Sum(GramianAggregator):
    """Sum of the rows, u = sum_k g_k: gradient descent on the sum of the losses.

    Scale ``'sum'``; heads ``'sum'``. There is no fall-back.
    """

    scale = 'sum'
    features_level = True

    def _weights(self, rows: Products) -> np.ndarray:
        return np.ones(len(rows))


class Mean(GramianAggregator):
    """Mean of the rows, u = 1/K sum_k g_k, where K counts the rows that are not zero.

    Scale ``'mean'``; heads ``'sum'``. There is no fall-back.
    """

    scale = 'mean'
    features_level = True

    def _weights(self, rows: Products) -> np.ndarray:
        return np.full(len(rows), 1 / len(rows))
