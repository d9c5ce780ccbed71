"""Preferences among the tasks."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch

from mtl_plugins.methods.naming import numbers_by_task

from .gramian import GramianAggregator, Products

Preferences: TypeAlias = Sequence[float] | Mapping[str, float] | torch.Tensor | None
"""One number per task, in their order or by name; None for equal ones."""


class PreferenceAggregator(GramianAggregator):
    """A method by products of the rows in which some tasks may count more, as ``pref_vector`` does in TorchJD 0.18.

    The preferences are used as they are: the update grows with them, so that ``[1, 1, 1]`` gives three times what the
    default of a method of scale ``'mean'`` gives. Where tasks are absent, the others keep theirs. A single task in all
    is ordinary training, whatever its preference.

    Args:
        pref_vector: Numbers >= 0, one of them larger: a sequence or tensor in the order of the tasks, or a mapping by
            task name, with 1 for tasks that it does not name; None for equal ones.
        tasks: As for :class:`Aggregator`.

    Raises:
        ValueError: If a number is negative or not finite, or all are zero; from :meth:`bind`, if a name is unknown or
            their number is wrong.
    """

    preferred_scale = 'raw'
    """``scale`` with preferences."""

    def __init__(self, pref_vector: Preferences = None, tasks: Sequence[str] | int | None = None) -> None:
        if isinstance(pref_vector, torch.Tensor):
            pref_vector = pref_vector.tolist()
        if pref_vector is not None:
            self._check_preferences(pref_vector)
            self.per_task, self.equivariant = True, False
            self.scale = self.preferred_scale
        self.pref_vector = pref_vector
        self._preferences = np.zeros(0)
        super().__init__(tasks)

    def _check_preferences(self, values: Sequence[float] | Mapping[str, float]) -> None:
        numbers = list(values.values()) if isinstance(values, Mapping) else values
        number = (int, float)
        if (
            not isinstance(numbers, Sequence)
            or isinstance(numbers, str)
            or not all(isinstance(n, number) and math.isfinite(n) and n >= 0 for n in numbers)
            or not (isinstance(values, Mapping) or any(numbers))
        ):
            raise ValueError(
                f'{type(self).__name__}: pref_vector must hold numbers >= 0 that are not all zero, one per task or by '
                f'task name, but got {values!r}'
            )

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order that ``task_ids`` counts (or their number)."""
        super().bind(tasks)
        if self.pref_vector is not None:
            name = type(self).__name__
            self._preferences = np.array(numbers_by_task(name, 'pref_vector', self.pref_vector, self.tasks, 1.0))
            if not self._preferences.any():
                raise ValueError(f'{name}: pref_vector must not be zero for all tasks, but got {self.pref_vector!r}')

    def preferences(self, rows: Products, default: float) -> np.ndarray:
        """Those of the given rows, ``default`` without any."""
        return np.full(len(rows), default) if self.pref_vector is None else self._preferences[rows.ids]
