"""Groups as the colours of a graph of conflicts."""

from typing import Any

import numpy as np
from torch import Tensor

from .base import Grouper
from .canonical import canonical_order


class GraphColouring(Grouper):
    r"""Puts tasks together that are not in conflict (SON-GOKU: Patapati and Srinivasan, arXiv 2509.16959).

    Two tasks are in conflict where the negative of their similarity exceeds :math:`\tau`. The graph of conflicts is
    coloured greedily (Welsh and Powell: tasks by falling number of conflicts, each takes the first colour that none of
    its foes has), and each colour is a group. Made for the map of :class:`~mtl_plugins.methods.GradientCosine`; of
    another map the mean of both directions counts.

    :math:`\tau` depends on how often the groups were made: it stays at ``tau_start`` for the first ``wait`` times and
    then falls to ``tau_end`` over ``anneal`` times, its logarithm linearly. With groups made every 32 steps the
    defaults are 100 and 400 steps, as in the example of the authors' program; the paper's numbers could not be
    established. Tasks with equally many conflicts come in the order of their rows of similarities.

    Args:
        tau_start: Threshold at the start; 1 lets all tasks step together.
        tau_end: Threshold at the end.
        wait: Groupings with ``tau_start``.
        anneal: Groupings in which the threshold falls; 0 for a jump.
        max_groups: Greatest number of groups, see :class:`~mtl_plugins.methods.grouping.base.Grouper`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        tau_start: float = 1.0,
        tau_end: float = 0.25,
        wait: int = 3,
        anneal: int = 13,
        max_groups: int | None = None,
    ) -> None:
        super().__init__(max_groups)
        for name, value in (('tau_start', tau_start), ('tau_end', tau_end)):
            if not 0 < value < float('inf'):
                raise ValueError(f'GraphColouring: {name} must be above 0 and finite, but got {value}')
        for name, value in (('wait', wait), ('anneal', anneal)):
            if value < 0:
                raise ValueError(f'GraphColouring: {name} must not be negative, but got {value}')
        self.tau_start = tau_start
        self.tau_end = tau_end
        self.wait = wait
        self.anneal = anneal
        self._calls = 0

    @property
    def tau(self) -> float:
        """The threshold of the next grouping."""
        past = self._calls - self.wait
        progress = 0.0 if past < 0 else min(1.0, past / self.anneal) if self.anneal else 1.0
        return self.tau_start * (self.tau_end / self.tau_start) ** progress

    def _partition(self, affinity: Tensor, rng: np.random.RandomState) -> list[list[int]]:
        similarity = ((affinity + affinity.T) / 2).numpy()
        order = canonical_order(similarity, rng)
        conflicts = -similarity[np.ix_(order, order)] > self.tau
        self._calls += 1
        return [[order[place] for place in group] for group in colour(conflicts)]

    def state_dict(self) -> dict[str, Any]:
        """Return the state, the number of groupings included."""
        return super().state_dict() | dict(calls=self._calls)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self._calls = int(state['calls'])


def colour(conflicts: np.ndarray) -> list[list[int]]:
    """Colour a graph greedily, see :class:`GraphColouring`.

    Args:
        conflicts: Symmetric bool array of shape (K, K); the diagonal does not count.

    Returns:
        The vertices of each colour.
    """
    conflicts = conflicts & ~np.eye(len(conflicts), dtype=bool)
    colours = np.full(len(conflicts), -1)
    for vertex in np.argsort(-conflicts.sum(1), kind='stable'):
        taken = set(colours[conflicts[vertex]])
        colours[vertex] = next(number for number in range(len(conflicts)) if number not in taken)
    return [np.flatnonzero(colours == number).tolist() for number in range(colours.max() + 1)]
