"""Groups chosen by the user."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mtl_plugins.methods.naming import near_matches

from .base import Grouper


class Fixed(Grouper):
    """Always gives the same groups.

    Args:
        groups: Task names per group, for example ``[['semseg', 'edge'], ['depth', 'normals']]``; every task of the run
            must occur exactly once.
        max_groups: For uniformity with the other groupers; must not be less than the number of groups.

    Raises:
        ValueError: If a group is empty, a task occurs twice or there are more groups than ``max_groups``.
    """

    follows_affinity = False

    def __init__(self, groups: Sequence[Sequence[str]], max_groups: int | None = None) -> None:
        super().__init__(max_groups)
        if isinstance(groups, str) or any(isinstance(group, str) for group in groups):
            raise TypeError(f"Fixed: groups must be lists of task names, as [['a', 'b'], ['c']], but got {groups!r}")
        self.groups = [[str(task) for task in group] for group in groups]
        names = [task for group in self.groups for task in group]
        if not self.groups or any(not group for group in self.groups):
            raise ValueError(f'Fixed: every group must hold at least one task, but got {self.groups}')
        if len(set(names)) != len(names):
            raise ValueError(f'Fixed: every task must occur once, but got {self.groups}')
        if max_groups is not None and len(self.groups) > max_groups:
            raise ValueError(f'Fixed: {len(self.groups)} groups were given, but max_groups={max_groups}')
        self._numbers: list[list[int]] | None = None

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order of the rows of the map.

        Raises:
            ValueError: If a grouped task is unknown or a task is in no group.
        """
        super().bind(tasks)
        number = {task: row for row, task in enumerate(self.tasks)}
        names = [task for group in self.groups for task in group]
        for name in names:
            if name not in number:
                raise ValueError(f"Fixed: groups name the unknown task '{name}': {near_matches(name, number)}")
        left_out = [task for task in self.tasks if task not in names]
        if left_out:
            raise ValueError(f'Fixed: every task must be in a group, but {", ".join(left_out)} is in none')
        self._numbers = [[number[task] for task in group] for group in self.groups]

    def _partition(self, affinity: Tensor, rng: np.random.RandomState) -> list[list[int]]:
        if self._numbers is None:
            raise RuntimeError('Fixed: call bind(tasks) first, which gives the task names their numbers')
        return self._numbers
