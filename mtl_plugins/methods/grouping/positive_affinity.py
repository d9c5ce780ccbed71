"""Sign-aware agglomeration."""

import numpy as np

from .agglomeration import merge_groups
from .base import SimilarityGrouper


class PositiveAffinity(SimilarityGrouper):
    """Merges tasks as long as they help each other.

    Starting from single tasks, the two groups with the greatest mean similarity (average linkage on the normalised,
    symmetrised affinity) are merged while that mean exceeds ``threshold``. With the default of 0 the sign decides:
    tasks that do not help each other stay apart, which affinity propagation, being relative, does not guarantee. A map
    without positive entries gives single tasks.

    Relabelling the tasks relabels the groups and nothing else; docs/stgu.md has what a call takes.

    Args:
        threshold: Mean similarity above which groups merge, in units of a task's effect on itself.
        max_groups: Greatest number of groups, see :class:`~mtl_plugins.methods.grouping.base.Grouper`.

    Raises:
        ValueError: If ``threshold`` is NaN or ``max_groups`` is not positive.
    """

    def __init__(self, threshold: float = 0.0, max_groups: int | None = None) -> None:
        super().__init__(max_groups)
        if np.isnan(threshold):
            raise ValueError('PositiveAffinity: threshold must be a number, but got nan')
        self.threshold = threshold

    def _cluster(self, similarity: np.ndarray, rng: np.random.RandomState) -> list[list[int]]:
        return merge_groups(similarity, [[task] for task in range(len(similarity))], self.threshold)
