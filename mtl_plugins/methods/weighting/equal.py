"""Constant weights."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import Weighting


class EqualWeighting(Weighting):
    """Weighs every task with 1, or with a constant of the user's choice.

    Args:
        weights: Weight per task name, for example ``dict(semseg=1.0, depth=0.5)``; a task that is not named has 1.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If a weight is negative or not finite, or names an unknown task.
    """

    facts = MethodFacts(
        'Gradient descent on the weighted sum',
        verified="step: bit-equal to MMEngine's OptimWrapper; two ranks: to the joint batch, relative error <= 1e-5",
    )

    looks_at_losses = False

    def __init__(self, weights: Mapping[str, float] | None = None, tasks: Sequence[str] | int | None = None) -> None:
        self.constants = {str(task): float(weight) for task, weight in (weights or {}).items()}
        for task, weight in self.constants.items():
            if not math.isfinite(weight) or weight < 0:
                raise ValueError(f"EqualWeighting: the weight of '{task}' must be finite and >= 0, but got {weight}")
        super().__init__(tasks)

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order of the K losses."""
        super().bind(tasks)
        self._check_names('weights', self.constants)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        return torch.tensor([self.constants.get(task, 1.0) for task in self.tasks], dtype=torch.float64)[rows]

    def __repr__(self) -> str:
        return f'EqualWeighting(weights={self.constants or None})'
