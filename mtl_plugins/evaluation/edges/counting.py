"""What one image contributes to the boundary F-measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from mtl_plugins.errors import UserError
from mtl_plugins.structures.thinning import thinned

from .bsds import count_bsds_matches, load_correspond_pixels
from .exact import count_exact_matches
from .greedy import count_matches, tolerance
from .nms import suppress_non_maxima

MATCHERS: Mapping[str, Callable[[np.ndarray, np.ndarray, float], int]] = MappingProxyType(
    {'exact': count_exact_matches, 'greedy': count_matches, 'bsds': count_bsds_matches}
)
"""Name -> function (pred, target, radius) that returns the number of pairs."""

THRESHOLDS = MappingProxyType(
    {
        19: tuple(k / 20 for k in range(1, 20)),
        101: (0.001, *(k / 100 for k in range(1, 100)), 0.999),
    }
)
"""Number -> thresholds: 0.05, 0.10, ... 0.95, or those of the released benchmark."""


def check_thresholds(thresholds: int | Sequence[float]) -> tuple[float, ...]:
    """Return the thresholds that a number or a list stands for.

    Raises:
        ValueError: If it is neither a known number nor increasing numbers between 0 and 1.
    """
    if isinstance(thresholds, int) and thresholds in THRESHOLDS:
        return THRESHOLDS[thresholds]
    if isinstance(thresholds, Sequence) and not isinstance(thresholds, str) and len(thresholds):
        values = tuple(float(value) for value in thresholds)
        if values[0] > 0 and values[-1] < 1 and all(a < b for a, b in pairwise(values)):
            return values
    raise UserError(
        f'thresholds must be {" or ".join(map(str, THRESHOLDS))} or a list of increasing numbers between 0 and 1, '
        f'but got {thresholds!r}'
    )


@dataclass(frozen=True)
class EdgeCounter:
    """Counts edge pixels and pairs of one image at all thresholds; can be sent to another process.

    Args:
        matchers: Names of :data:`MATCHERS`.
        thresholds: Thresholds of the probability.
        max_dist: Largest distance of a pair as a share of the image diagonal.
        nms: Whether predictions go through :func:`suppress_non_maxima` first. Pixels above a threshold are edges then;
            without, those at or above it (each is what a released reader does).

    Raises:
        ValueError: If a matcher is unknown.
        ImportError: If a matcher needs a package that is not installed.
    """

    matchers: tuple[str, ...] = ('exact', 'greedy')
    thresholds: tuple[float, ...] = field(default=THRESHOLDS[19], repr=False)
    max_dist: float = 0.0075
    nms: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.matchers if name not in MATCHERS]
        if unknown or not self.matchers:
            raise UserError(f'matcher must be of {", ".join(MATCHERS)} (one or several), but got {self.matchers!r}')
        if 'bsds' in self.matchers:
            load_correspond_pixels()

    def __call__(self, score: np.ndarray, edges: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        """Return the sums of one image.

        Args:
            score: Predicted probability ``(H, W)``.
            edges: Mask ``(H, W)`` of the edges of the target.
            valid: Mask ``(H, W)`` of the labelled pixels. Nothing outside counts, on either side.

        Returns:
            ``matches_<matcher>`` and ``predicted``, float64 per threshold, and ``actual``, float64: numbers of pixels.
            The matches are NaN if a score is not finite.
        """
        target = thinned(edges & valid)
        radius = tolerance(target.shape, self.max_dist)
        sums = {f'matches_{name}': np.zeros(len(self.thresholds)) for name in self.matchers}
        predicted = np.zeros(len(self.thresholds))
        if np.isfinite(score[valid]).all():
            for index, guess in enumerate(self.binarized(score, valid)):
                predicted[index] = np.count_nonzero(guess)
                for name in self.matchers:
                    sums[f'matches_{name}'][index] = MATCHERS[name](guess, target, radius)
        else:
            for matches in sums.values():
                matches[:] = np.nan
        return dict(**sums, predicted=predicted, actual=np.array(np.count_nonzero(target), dtype=np.float64))

    def binarized(self, score: np.ndarray, valid: np.ndarray) -> list[np.ndarray]:
        """Return the thinned edges ``(H, W)`` of a prediction at each threshold."""
        if self.nms:
            score = suppress_non_maxima(np.nan_to_num(score))
            return [thinned(valid & (score > threshold)) for threshold in self.thresholds]
        return [thinned(valid & (score >= threshold)) for threshold in self.thresholds]
