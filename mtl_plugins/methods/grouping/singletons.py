"""Every task on its own."""

import numpy as np
from torch import Tensor

from .base import Grouper


class Singletons(Grouper):
    """Puts every task into a group of its own; with ``max_groups``, the most similar ones are merged."""

    follows_affinity = False

    def _partition(self, affinity: Tensor, rng: np.random.RandomState) -> list[list[int]]:
        return [[task] for task in range(len(affinity))]
