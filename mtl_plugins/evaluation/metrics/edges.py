"""Boundary F-measure at the optimal data set scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtl_plugins.evaluation.edge_matching import count_matches, thinned, tolerance
from mtl_plugins.registry import METRICS

from .base import NAN, DenseMetric, ratio

THRESHOLDS = np.arange(1, 20) / 20
"""0.05, 0.10, ... 0.95."""


@METRICS.register_module()
class EdgeMetric(DenseMetric):
    """``odsF_greedy`` in percent: the best F-measure of any one threshold for the whole data set.

    For each of 19 thresholds the probability map is binarised (>=) and thinned, and its pixels are paired one to one
    with those of the thinned target within ``max_dist`` times the image diagonal. Matches, predicted and actual edge
    pixels are pooled over the images, and ``F = 2 P R / (P + R)``.

    The pairing is greedy (:func:`mtl_plugins.evaluation.edge_matching.match_edges`), there is no non-maximum
    suppression, and 19 thresholds stand for the 99 or 101 of the BSDS benchmark (Martin et al., 2004). The numbers are
    therefore a little below its odsF, never above for the same thinned maps, and carry another name.

    Args:
        task: Key of a task of kind ``'binary'``.
        max_dist: Tolerance as a share of the image diagonal: 0.0075 on BSDS and PASCAL-Context, 0.011 on NYUD-v2.
        **kwargs: See :class:`DenseMetric`.
    """

    kinds = ('binary',)
    entries = {'odsF_greedy': ('%', True)}

    def __init__(self, task: str = 'edge', max_dist: float = 0.0075, **kwargs) -> None:
        super().__init__(task, **kwargs)
        if not 0 <= max_dist < 1:
            raise ValueError(f'EdgeMetric: max_dist is a share of the diagonal, 0 <= max_dist < 1, but got {max_dist}')
        self.max_dist = max_dist

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return matches and predicted edge pixels per threshold, actual edge pixels, and the labelled pixels."""
        score = np.where(valid, pred[0], -1.0)
        edges = thinned(valid & (target[0] > 0))
        radius = tolerance(edges.shape, self.max_dist)
        broken = 0.0 if np.isfinite(score).all() else NAN
        matches, predicted = np.zeros((2, len(THRESHOLDS)))
        for index, threshold in enumerate(THRESHOLDS):
            guess = thinned(score >= threshold)
            predicted[index] = np.count_nonzero(guess)
            matches[index] = count_matches(guess, edges, radius)
        return dict(
            matches=matches + broken,
            predicted=predicted,
            actual=np.array(np.count_nonzero(edges), dtype=np.float64),
        )

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return the metric; NaN if no image has an edge or a prediction is not finite."""
        if total is None or total['actual'] == 0 or np.isnan(total['matches']).any():
            return dict(odsF_greedy=NAN)
        # 2 P R / (P + R) with both fractions multiplied out, which also holds for empty predictions.
        scores = [ratio(200 * hits, total['actual'] + n) for hits, n in zip(total['matches'], total['predicted'])]
        return dict(odsF_greedy=max(scores))
