"""Group optimization for multi-task alignment."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, check_number

LARGEST_RATIO = 1e20


class GO4Align(Weighting):
    r"""Brings losses to one size, and gives the tasks of a group the same weight.

    With the shares :math:`p \leftarrow p e^{-\eta L} / \sum`, from :math:`1 / K`, the risks are :math:`v_k = p_k \sum_j
    L_j / L_k`; the tasks are split into groups by k-means on :math:`v`, and a task's weight is the mean of its group.

    Source: Shen, Wang, Xiao, Van Noord, Worring, "GO4Align: Group Optimization for Multi-Task Alignment", NeurIPS 2024,
    arXiv 2404.06486; formulas and :math:`\eta` from the authors' program.

    Where we differ: k-means on a line is solved exactly, where the program starts from random centres (of two equally
    good splits, the one with the smaller lower groups); the program's default is one group, which is a common factor.
    Tasks that are absent keep their share of :math:`p`. A loss below 1e-20 of the sum counts as that.

    Args:
        num_groups: Number of groups, at least 1; fewer where fewer tasks are present.
        eta: :math:`\eta`, in units of the inverse of a loss.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range; from :meth:`weights`, if a loss is negative.
    """

    facts = MethodFacts(
        'Group optimization for multi-task alignment',
        paper='Shen et al., NeurIPS 2024',
        arxiv='2404.06486',
        verified="formula of the authors' program; no vectors. The number of groups is our choice",
    )

    def __init__(self, num_groups: int = 2, eta: float = 1e-4, tasks: Sequence[str] | int | None = None) -> None:
        if not isinstance(num_groups, int) or num_groups < 1:
            raise ValueError(f'GO4Align: num_groups must be an integer >= 1, but got {num_groups!r}')
        check_number(self, 'eta', eta, 0)
        self.num_groups = num_groups
        self.eta = eta
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        return dict(shares=torch.full((num_tasks,), 1 / num_tasks, dtype=torch.float64))

    def _next(self, losses: Tensor, rows: Tensor) -> Tensor:
        """The next shares of the present tasks among each other."""
        return torch.softmax(self._state['shares'][rows].clamp_min(1e-300).log() - self.eta * losses, dim=0)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        self._check_sign(losses, rows)
        total = losses.sum()
        ratios = total / losses.clamp_min(total / LARGEST_RATIO) if total > 0 else torch.full_like(losses, len(losses))
        return torch.from_numpy(group_means((self._next(losses, rows) * ratios).numpy(), self.num_groups))

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        shares = self._state['shares']
        shares[rows] = shares[rows].sum() * self._next(before, rows)


def group_means(values: np.ndarray, num_groups: int) -> np.ndarray:
    """Split numbers into groups with the least sum of squared distances from their means; return each one's mean.

    On a line the groups are intervals, so that the best split follows from the best splits of the smaller numbers.

    Args:
        values: Finite numbers, of shape (K,).
        num_groups: Largest number of groups.
    """
    order = np.argsort(values, kind='stable')
    line = values[order] / max(float(np.abs(values).max()), 1e-300)
    size = len(line)

    def cost(start: int, end: int) -> float:
        part = line[start:end]
        return float(np.square(part - part.mean()).sum())

    # Of the first 0, 1, ... numbers: the cost of the best split, and where its last group begins.
    best, splits = [0.0, *(cost(0, end) for end in range(1, size + 1))], [[0] * (size + 1)]
    for _ in range(1, min(num_groups, size)):
        found = [min((best[start] + cost(start, end), start) for start in range(end)) for end in range(1, size + 1)]
        best, last = [0.0, *(value for value, _ in found)], [0, *(start for _, start in found)]
        splits.append(last)
    means, end = np.empty(size), size
    for last in reversed(splits):
        start = last[end]
        if start < end:
            means[order[start:end]] = values[order[start:end]].mean()
        end = start
    return means
