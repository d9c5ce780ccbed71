"""The trivial references."""

from __future__ import annotations

import numpy as np
import torch

from .gramian import GramianAggregator


class Sum(GramianAggregator):
    """Sum of the rows, u = sum_k g_k: gradient descent on the sum of the losses.

    Scale ``'sum'``; heads ``'sum'``. There is no fall-back.
    """

    scale = 'sum'
    features_level = True

    def _weights(
        self,
        gram: np.ndarray,
        losses: np.ndarray | None,
        generator: torch.Generator | None,
        ids: np.ndarray,
    ) -> np.ndarray:
        return np.ones(len(gram))


class Mean(GramianAggregator):
    """Mean of the rows, u = 1/K sum_k g_k, where K counts the rows that are not zero.

    Scale ``'mean'``; heads ``'sum'``. There is no fall-back.
    """

    scale = 'mean'
    features_level = True

    def _weights(
        self,
        gram: np.ndarray,
        losses: np.ndarray | None,
        generator: torch.Generator | None,
        ids: np.ndarray,
    ) -> np.ndarray:
        return np.full(len(gram), 1 / len(gram))
