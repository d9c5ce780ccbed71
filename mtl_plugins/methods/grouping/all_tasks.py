"""All tasks together."""

import numpy as np
from torch import Tensor

from .base import Grouper


class AllTasks(Grouper):
    """Puts all tasks into one group, which makes selective updates ordinary joint training."""

    follows_affinity = False

    def _partition(self, affinity: Tensor, rng: np.random.RandomState) -> list[list[int]]:
        return [list(range(len(affinity)))]
