"""What a decoder with a feature map of its own for every task gives, and what it is told."""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mtl_plugins.errors import UserError
from mtl_plugins.utils.argument_types import Checked


class TaskFeatures(NamedTuple):
    """Output of a :class:`PerTaskDecoder`.

    Attributes:
        maps: Task -> what its head gets: a map ``(N, C, h, w)``, or a tuple of maps for a predictor that takes several.
        auxiliary: Name -> task -> an auxiliary prediction ``(N, C_task, h, w)`` of any size. Each adds a loss
            ``'<task>.loss_<name>'``: the task's own loss, on the prediction resized to the targets.
    """

    maps: dict[str, Tensor | tuple[Tensor, ...]]
    auxiliary: dict[str, dict[str, Tensor]]


class PerTaskDecoder(Checked, BaseModule):
    """Base of decoders that return a map of their own for every task.

    The segmentor fills in ``in_channels`` and ``tasks``. A subclass sets ``out_channels`` (one number for all tasks,
    one per map for predictors with several maps, or a dict with either per task) and returns :class:`TaskFeatures` from
    ``forward``. Everything that several tasks depend on is found to be shared by the methods, whatever its name; a
    decoder has nothing to declare for that. Layers that nothing but one task's head depends on should run inside
    :meth:`only_for`, which spares idle tasks the memory of a graph.

    Args:
        in_channels: Channels of the backbone's maps.
        tasks: Task -> channels of its prediction, for the tasks whose heads take the decoder's output, in their order.
        aux_weight: Factor on the losses of auxiliary predictions, on top of the head's ``loss_weight``; one number, or
            one per name of :attr:`TaskFeatures.auxiliary` (1 for names that are left out).
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If there is no task, or a weight is negative or not finite.
    """

    out_channels: int | Sequence[int] | Mapping[str, int | Sequence[int]]

    def __init__(
        self,
        in_channels: Sequence[int],
        tasks: Mapping[str, int],
        aux_weight: float | Mapping[str, float] = 1.0,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        name = type(self).__name__
        if not tasks:
            raise UserError(f'{name}: tasks must name at least one task with its channels, for example dict(depth=1)')
        for weight in aux_weight.values() if isinstance(aux_weight, Mapping) else [aux_weight]:
            if not (math.isfinite(weight) and weight >= 0):
                raise UserError(f'{name}: aux_weight must be numbers >= 0, but got {aux_weight!r}')
        self.in_channels = tuple(in_channels)
        self.task_channels = dict(tasks)
        self._aux_weight = aux_weight
        self._active: frozenset[str] | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Keys of the tasks, in the order of the heads."""
        return tuple(self.task_channels)

    def aux_weights(self, names: Collection[str]) -> dict[str, float]:
        """Factors on the losses of the auxiliary predictions ``names``.

        Raises:
            ValueError: If the config has a weight for another name.
        """
        weights = self._aux_weight
        if not isinstance(weights, Mapping):
            return dict.fromkeys(names, weights)
        unknown = sorted(set(weights) - set(names))
        if unknown:
            raise UserError(
                f'{type(self).__name__}: aux_weight names {unknown}, but its auxiliary predictions are {list(names)}'
            )
        return {name: weights.get(name, 1.0) for name in names}

    def set_active_tasks(self, tasks: frozenset[str] | None) -> None:
        """Tasks whose losses will get a gradient, None for all; the segmentor says so."""
        self._active = tasks

    def only_for(self, task: str) -> AbstractContextManager:
        """Around layers of ``task`` alone: without graph while the task is idle."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and (self._active is None or task in self._active))

    def forward(self, maps: Sequence[Tensor]) -> TaskFeatures:
        """Features and auxiliary predictions of all tasks from the maps ``(N, C_i, H_i, W_i)`` of the backbone."""
        raise NotImplementedError
