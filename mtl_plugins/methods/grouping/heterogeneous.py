"""Groups of the most different tasks."""

from functools import lru_cache

import numpy as np

from .affinity_propagation import AffinityPropagation
from .agglomeration import merge_groups
from .base import SimilarityGrouper

EXACT_UP_TO = 11


class Heterogeneous(SimilarityGrouper):
    """Puts the most different tasks together: the control experiment for groups of tasks that help each other.

    The partition into M groups whose sum of similarities inside the groups is least. The STGU paper ablates groups of
    maximal disparity, of which a reviewer notes that they still beat random ones; how the paper makes them could not
    be read, and this definition is ours. Exact for up to 11 tasks (some milliseconds); for more, the two groups with
    the least mean similarity are merged again and again, and then single tasks move while that lowers the sum.

    Args:
        num_groups: M; None for as many groups as affinity propagation finds on the same map. More groups than tasks
            give single tasks.
        max_groups: Greatest number of groups; not together with ``num_groups``.

    Raises:
        ValueError: If an argument is not positive or both are given.
    """

    def __init__(self, num_groups: int | None = None, max_groups: int | None = None) -> None:
        super().__init__(max_groups)
        if num_groups is not None and num_groups < 1:
            raise ValueError(f'Heterogeneous: num_groups must be at least 1 or None, but got {num_groups}')
        if num_groups is not None and max_groups is not None:
            raise ValueError(f'Heterogeneous: give num_groups or max_groups, but got {num_groups} and {max_groups}')
        self.num_groups = num_groups
        self._finder = AffinityPropagation()

    def _cluster(self, similarity: np.ndarray, rng: np.random.RandomState) -> list[list[int]]:
        count = self.num_groups
        if count is None:
            count = min(len(self._finder._cluster(similarity, rng)), self.max_groups or len(similarity))
            self.fallbacks = self._finder.fallbacks
        count = min(count, len(similarity))
        return _exact(similarity, count) if len(similarity) <= EXACT_UP_TO else _greedy(similarity, count)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self._finder.fallbacks = self.fallbacks


@lru_cache(maxsize=2)
def _splits(num_tasks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All ways to take the group of its first task out of a set, sets and groups being bit masks.

    Returns:
        The groups, what they leave over, and where the ways of each set begin; set 0 is left out.
    """
    groups, rests, starts = [], [], [0]
    for whole in range(1, 2**num_tasks):
        first = whole & -whole
        others = whole ^ first
        part = others
        ways = []
        while True:
            ways.append(part | first)
            if part == 0:
                break
            part = (part - 1) & others
        groups += ways
        rests += [whole ^ way for way in ways]
        starts.append(len(groups))
    return np.array(groups), np.array(rests), np.array(starts[:-1])


def _exact(similarity: np.ndarray, count: int) -> list[list[int]]:
    """By dynamic programming over subsets: 3^K / 2 ways per group."""
    num_tasks = len(similarity)
    groups, rests, starts = _splits(num_tasks)
    inside = np.zeros(2**num_tasks)
    for task in range(num_tasks):
        below = np.arange(2**task)
        members = (below[:, None] >> np.arange(task)) & 1
        inside[2**task : 2 ** (task + 1)] = inside[: 2**task] + members @ similarity[:task, task]
    least = np.full(2**num_tasks, np.inf)
    least[0] = 0.0
    tables = [least]
    for _ in range(count):
        least = np.full(2**num_tasks, np.inf)
        least[1:] = np.minimum.reduceat(inside[groups] + tables[-1][rests], starts)
        tables.append(least)
    found, whole = [], 2**num_tasks - 1
    for step in range(count, 0, -1):
        ways = slice(starts[whole - 1], starts[whole] if whole < len(starts) else None)
        best = int(np.argmin(inside[groups[ways]] + tables[step - 1][rests[ways]]))
        group = int(groups[ways][best])
        found.append([task for task in range(num_tasks) if group >> task & 1])
        whole = int(rests[ways][best])
    return found


def _greedy(similarity: np.ndarray, count: int) -> list[list[int]]:
    num_tasks = len(similarity)
    owner = np.empty(num_tasks, dtype=np.int64)
    apart = [[task] for task in range(num_tasks)]
    for number, members in enumerate(merge_groups(-similarity, apart, max_groups=count)):
        owner[members] = number
    while True:
        # What each task adds in each group, itself left out.
        inside = similarity - np.diag(similarity.diagonal())
        added = inside @ np.eye(count)[owner]
        gain = added[np.arange(num_tasks), owner][:, None] - added
        gain[np.bincount(owner, minlength=count)[owner] == 1] = 0.0  # a group must not become empty
        task, group = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[task, group] <= 1e-9 * np.abs(similarity).max():
            return [np.flatnonzero(owner == number).tolist() for number in range(count)]
        owner[task] = group
