"""Groups by chance, the control experiment for groups by affinity."""

import numpy as np
from torch import Tensor

from .base import Grouper


class Random(Grouper):
    """Deals the tasks out to groups of equal size (but for a remainder) at random, anew in every call.

    Args:
        num_groups: Number of groups; None to draw it between 1 and the number of tasks (or ``max_groups``) each time.
            More groups than tasks give single tasks.
        max_groups: Upper end of the drawn number; not together with ``num_groups``.

    Raises:
        ValueError: If an argument is not positive or both are given.
    """

    follows_affinity = False

    def __init__(self, num_groups: int | None = None, max_groups: int | None = None) -> None:
        super().__init__(max_groups)
        if num_groups is not None and num_groups < 1:
            raise ValueError(f'Random: num_groups must be at least 1 or None, but got {num_groups}')
        if num_groups is not None and max_groups is not None:
            raise ValueError(f'Random: give num_groups or max_groups, but got {num_groups} and {max_groups}')
        self.num_groups = num_groups

    def _partition(self, affinity: Tensor, rng: np.random.RandomState) -> list[list[int]]:
        num_tasks = len(affinity)
        most = num_tasks if self.max_groups is None else min(self.max_groups, num_tasks)
        count = rng.randint(1, most + 1) if self.num_groups is None else min(self.num_groups, num_tasks)
        return [list(part) for part in np.array_split(rng.permutation(num_tasks), count)]
