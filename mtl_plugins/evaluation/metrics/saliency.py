"""Maximal F-measure of saliency maps, in the two ways it is published."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import expit

from mtl_plugins.registry import METRICS
from mtl_plugins.utils.argument_types import Positive

from .base import NAN, DenseMetric, ratio

THRESHOLDS = np.arange(1, 20) / 20
"""0.05, 0.10, ... 0.95."""
SURVEY_THRESHOLDS = np.linspace(0.2, 0.9, 15)
SMALL = 1e-12


@METRICS.register_module()
class SaliencyMetric(DenseMetric):
    """``maxF`` and ``mIoU`` in percent: the best over the thresholds 0.05, 0.10, ... 0.95.

    For each threshold true positives, predicted and actual positives are pooled over the dataset;
    ``F = (1 + b) P R / (b P + R)`` with ``b = beta_squared``, and ``mIoU`` is the mean of the intersection over union
    of the salient region and of the background. A pixel is predicted salient if its probability is >= the threshold.

    Args:
        task: Key of a task of kind ``'binary'``.
        beta_squared: Weight of precision against recall; 0.3 in the literature on saliency.
        released_sigmoid_quirk: Send the probabilities through one more sigmoid first, as the evaluation code behind the
            published PASCAL-Context tables does. Scores then lie in 0.5..0.731, so that only four thresholds tell maps
            apart (0.20, 0.41, 0.62, 0.85 of the probability). For comparison with those tables only.
        **kwargs: See :class:`DenseMetric`.
    """

    kinds = ('binary',)
    entries = {'maxF': ('%', True), 'mIoU': ('%', True)}

    def __init__(
        self, task: str = 'sal', beta_squared: Positive = 0.3, released_sigmoid_quirk: bool = False, **kwargs
    ) -> None:
        super().__init__(task, **kwargs)
        self.beta_squared = beta_squared
        self.released_sigmoid_quirk = released_sigmoid_quirk

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return hits and predicted positives per threshold, actual positives, and the number of pixels."""
        score = pred[0][valid].astype(np.float64)
        actual = target[0][valid] > 0
        broken = 0.0 if np.isfinite(score).all() else NAN
        if self.released_sigmoid_quirk:
            score = expit(score)
        return dict(
            hits=_count_from(score[actual], THRESHOLDS, 'left') + broken,
            predicted=_count_from(score, THRESHOLDS, 'left') + broken,
            actual=np.array(np.count_nonzero(actual), dtype=np.float64),
            count=np.array(actual.size, dtype=np.float64),
        )

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return the metrics; NaN if nothing is salient in the whole set or a prediction is not finite."""
        if total is None or total['actual'] == 0 or np.isnan(total['hits']).any():
            return dict(maxF=NAN, mIoU=NAN)
        scores = []
        for hits, predicted in zip(total['hits'], total['predicted']):
            # (1 + b) P R / (b P + R) with both fractions multiplied out, which also holds for empty predictions.
            f_measure = ratio((1 + self.beta_squared) * hits, self.beta_squared * total['actual'] + predicted)
            union = total['actual'] + predicted - hits
            rest = total['count'] - union
            background = ratio(rest, total['count'] - hits)
            overlaps = [value for value in (ratio(hits, union), background) if not np.isnan(value)]
            scores.append((f_measure, sum(overlaps) / len(overlaps)))
        max_f, mean_iou = (100 * max(column) for column in zip(*scores))
        return dict(maxF=max_f, mIoU=mean_iou)


@METRICS.register_module()
class PerImageSaliencyMetric(DenseMetric):
    """``maxF`` and ``mIoU`` in percent as the multi-task survey by Vandenhende et al. (2021) and ASTMT score saliency.

    For each of the thresholds 0.20, 0.25, ... 0.90 (a pixel is salient if its probability is above it), precision,
    recall and intersection over union of the salient region are computed per image and averaged over the images; ``F``
    is the harmonic mean (beta^2 = 1) of the averages. Both metrics are the best over the thresholds. Where neither
    target nor prediction has a salient pixel, the overlap counts 1; precision or recall with nothing to divide by
    count 0. Images without a labelled pixel are left out.

    Args:
        task: Key of a task of kind ``'binary'``.
        **kwargs: See :class:`DenseMetric`.
    """

    kinds = ('binary',)
    entries = {'maxF': ('%', True), 'mIoU': ('%', True)}

    def __init__(self, task: str = 'sal', **kwargs) -> None:
        super().__init__(task, **kwargs)

    def measure(self, pred: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return precision, recall and overlap per threshold, and 1 for the image if it has a labelled pixel."""
        score = pred[0][valid].astype(np.float64)
        actual = target[0][valid] > 0
        hits = _count_from(score[actual], SURVEY_THRESHOLDS, 'right')
        predicted = _count_from(score, SURVEY_THRESHOLDS, 'right')
        total = np.count_nonzero(actual)
        union = predicted + total - hits
        counted = float(valid.any())
        scores = dict(
            precision=hits / (predicted + SMALL),
            recall=hits / (total + SMALL),
            overlap=np.where(union > 0, hits / np.maximum(union, 1), 1.0),
        )
        broken = 0.0 if np.isfinite(score).all() else NAN
        return dict(images=np.array(counted), **{name: value * counted + broken for name, value in scores.items()})

    def combine(self, total: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Return the metrics; NaN if no image has a labelled pixel or a prediction is not finite."""
        if total is None or total['images'] == 0 or np.isnan(total['overlap']).any():
            return dict(maxF=NAN, mIoU=NAN)
        precision, recall, overlap = (total[name] / total['images'] for name in ('precision', 'recall', 'overlap'))
        f_measure = 2 * precision * recall / (precision + recall + SMALL)
        return dict(maxF=100 * float(f_measure.max()), mIoU=100 * float(overlap.max()))


def _count_from(values: np.ndarray, thresholds: np.ndarray, side: str) -> np.ndarray:
    """Return for each threshold how many values exceed it (``side='right'``), or reach it (``'left'``)."""
    return values.size - np.searchsorted(np.sort(values), thresholds, side=side).astype(np.float64)
