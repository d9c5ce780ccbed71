"""What all groupers share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.methods.naming import as_built, check_tasks
from mtl_plugins.methods.similarity import check_affinity, normalised_similarity

from .agglomeration import merge_groups
from .canonical import canonical_order


class Grouper(ABC):
    """Splits the tasks into disjoint groups.

    The result depends on the affinity map and on the generator only; a grouper whose result also depends on earlier
    calls says so, and keeps what it needs in its state.

    Args:
        max_groups: Greatest number of groups; where the method gives more, the pairs of groups with the greatest mean
            similarity are merged. None for no cap.

    Attributes:
        follows_affinity: Whether the groups depend on the map, so that its measurement must not be left out.
        fallbacks: How often the method did not get to a result of its own and used its fall-back.

    Raises:
        ValueError: If ``max_groups`` is not positive.
    """

    follows_affinity: ClassVar[bool] = True

    def __init__(self, max_groups: int | None = None) -> None:
        if max_groups is not None and max_groups < 1:
            raise ValueError(f'{type(self).__name__}: max_groups must be at least 1 or None, but got {max_groups}')
        self.max_groups = max_groups
        self.fallbacks = 0
        self.tasks: tuple[str, ...] | None = None

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order of the rows of the map (or their number)."""
        self.tasks = check_tasks(type(self).__name__, tasks)

    def __call__(self, affinity: Tensor, generator: torch.Generator) -> list[list[int]]:
        """Return the groups.

        Args:
            affinity: Map of shape (K, K), row = source, column = target, finite.
            generator: CPU generator; every call takes exactly one draw from it.

        Returns:
            A partition of ``range(K)``: members in ascending order, groups in the order of their first member.

        Raises:
            ValueError: If the map is not a finite square matrix, or has another size than the bound tasks.
        """
        matrix = check_affinity(affinity)
        if self.tasks is not None and len(self.tasks) != len(matrix):
            raise ValueError(
                f'{type(self).__name__} is bound to {len(self.tasks)} tasks, '
                f'but the affinity map has {len(matrix)} rows'
            )
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        rng = np.random.RandomState(seed)
        groups = self._partition(matrix, rng)
        if self.max_groups is not None and len(groups) > self.max_groups:
            similarity = normalised_similarity(matrix).numpy()
            groups = _cap(similarity, groups, self.max_groups, rng)
        groups = sorted(sorted(int(task) for task in group) for group in groups)
        if sorted(task for group in groups for task in group) != list(range(len(matrix))):
            raise RuntimeError(f'{type(self).__name__} gave {groups}, which is no partition of {len(matrix)} tasks')
        return groups

    @abstractmethod
    def _partition(self, affinity: Tensor, rng: np.random.RandomState) -> list[list[int]]:
        """Return the groups for a checked float64 map, in any order."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors, numbers, strings and lists only."""
        return dict(fallbacks=self.fallbacks)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.fallbacks = int(state['fallbacks'])

    def __repr__(self) -> str:
        return as_built(self)


class SimilarityGrouper(Grouper):
    """Clusters the normalised similarity of the tasks in an order that does not depend on their numbering.

    Relabelling the tasks therefore relabels the groups and changes nothing else, bit for bit; only tasks that are exact
    mirror images of each other in the map are told apart by the generator.
    """

    def _partition(self, affinity: Tensor, rng: np.random.RandomState) -> list[list[int]]:
        similarity = normalised_similarity(affinity).numpy()
        order = canonical_order(similarity, rng)
        groups = self._cluster(similarity[np.ix_(order, order)], rng)
        return [[order[position] for position in group] for group in groups]

    @abstractmethod
    def _cluster(self, similarity: np.ndarray, rng: np.random.RandomState) -> list[list[int]]:
        """Return the groups for a symmetric similarity of shape (K, K) whose diagonal is 1."""


def _cap(
    similarity: np.ndarray, groups: list[list[int]], max_groups: int, rng: np.random.RandomState
) -> list[list[int]]:
    """Merge down to ``max_groups`` groups, in an order that does not depend on the numbering of the tasks."""
    order = canonical_order(similarity, rng)
    position = np.argsort(order)
    placed = sorted(sorted(position[task] for task in group) for group in groups)
    merged = merge_groups(similarity[np.ix_(order, order)], placed, max_groups=max_groups)
    return [[order[place] for place in group] for group in merged]
