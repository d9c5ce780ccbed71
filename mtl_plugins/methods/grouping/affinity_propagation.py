"""Affinity propagation on the normalised affinity."""

import numpy as np

from .base import SimilarityGrouper
from .propagation import propagate


class AffinityPropagation(SimilarityGrouper):
    """Clusters the tasks by affinity propagation (scikit-learn), the number of groups being found by the method.

    That STGU groups by it is known from the released program; the body of the paper was not at hand.

    The method is relative: with the default preference, the median similarity, it may put tasks together that hurt
    each other if others hurt each other more. :class:`PositiveAffinity` heeds the sign; so does this class with
    ``preference=0.0`` to a degree.

    Defined where the bare method is not: if all pairs of tasks have equal similarity, they form one group if that is
    positive and single tasks otherwise; if the messages do not settle, they are damped more (0.9, five times as many
    updates), and if that does not help either the tasks stay single, which ``fallbacks`` counts.

    Relabelling the tasks relabels the groups and nothing else. Nearly all of the time of a call is spent inside
    scikit-learn, several times as much where the messages settle slowly; docs/stgu.md has the numbers.

    Args:
        preference: Inclination of a task to be the centre of a group, in units of a task's effect on itself; a greater
            value gives more groups. None for the median of all entries of the similarity.
        damping: Share of the old messages in each update, in [0.5, 1).
        max_iter: Greatest number of updates.
        convergence_iter: Updates without a change after which the messages have settled.
        max_groups: Greatest number of groups, see :class:`~mtl_plugins.methods.grouping.base.Grouper`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        preference: float | None = None,
        damping: float = 0.5,
        max_iter: int = 200,
        convergence_iter: int = 50,
        max_groups: int | None = None,
    ) -> None:
        super().__init__(max_groups)
        if not 0.5 <= damping < 1:
            raise ValueError(f'AffinityPropagation: damping must lie in [0.5, 1), but got {damping}')
        if not 1 <= convergence_iter < max_iter:
            raise ValueError(
                'AffinityPropagation: convergence_iter must lie between 1 and max_iter - 1, '
                f'but got convergence_iter={convergence_iter} and max_iter={max_iter}'
            )
        if preference is not None and not np.isfinite(preference):
            raise ValueError(f'AffinityPropagation: preference must be finite or None, but got {preference}')
        self.preference = preference
        self.damping = damping
        self.max_iter = max_iter
        self.convergence_iter = convergence_iter

    def _cluster(self, similarity: np.ndarray, rng: np.random.RandomState) -> list[list[int]]:
        num_tasks = len(similarity)
        pairs = similarity[np.triu_indices(num_tasks, k=1)]
        if num_tasks == 1 or (pairs == pairs[0]).all():
            together = num_tasks == 1 or pairs[0] > 0
            return [list(range(num_tasks))] if together else [[task] for task in range(num_tasks)]
        for damping, factor in ((self.damping, 1), (max(self.damping, 0.9), 5)):
            groups = propagate(
                similarity,
                rng,
                preference=self.preference,
                damping=damping,
                max_iter=factor * self.max_iter,
                convergence_iter=self.convergence_iter,
            )
            if groups is not None:
                return groups
        self.fallbacks += 1
        return [[task] for task in range(num_tasks)]
