"""The clustering of the authors' released program."""

from typing import Any

import numpy as np
from torch import Tensor

from mtl_plugins.methods.similarity import released_similarity

from .base import Grouper
from .propagation import propagate

_RETRIES = 10


class Released(Grouper):
    """Groups as the authors' released program does, for comparisons.

    Affinity propagation (preference: median, damping 0.5, 200 updates, settled after 50 without change) on the
    half-normalised similarity, see :func:`~mtl_plugins.methods.similarity.released_similarity`. If the messages do not
    settle it is tried again up to ten times, each time asking for 100 more updates without change, and then the groups
    of the previous call stay. The result depends on the order in which the tasks are listed.

    Two points differ from the program: its noise comes from the generator instead of the global state, and where a
    diagonal entry of zero leaves no finite similarity, at which the program stops with an error, the previous groups
    stay. ``fallbacks`` counts how often they stayed. Before the first result the groups are single tasks.

    Args:
        max_groups: Greatest number of groups; the program has no such cap.
    """

    def __init__(self, max_groups: int | None = None) -> None:
        super().__init__(max_groups)
        self._previous: list[list[int]] | None = None

    def _partition(self, affinity: Tensor, rng: np.random.RandomState) -> list[list[int]]:
        similarity = released_similarity(affinity).numpy()
        groups = None
        if np.isfinite(similarity).all():
            for attempt in range(_RETRIES):
                groups = propagate(
                    similarity,
                    rng,
                    preference=None,
                    damping=0.5,
                    max_iter=200,
                    convergence_iter=50 + 100 * attempt,
                )
                if groups is not None:
                    break
        if groups is None:
            self.fallbacks += 1
            if self._previous is None or sum(map(len, self._previous)) != len(similarity):
                return [[task] for task in range(len(similarity))]
            return self._previous
        self._previous = [[int(task) for task in group] for group in groups]
        return self._previous

    def state_dict(self) -> dict[str, Any]:
        """Return the state, the previous groups included."""
        return super().state_dict() | dict(previous=self._previous)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self._previous = state['previous']
