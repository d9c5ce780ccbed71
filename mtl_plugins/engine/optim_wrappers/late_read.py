"""Differentiating before the host knows the losses, so that losses and the check of gradients are one read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mtl_plugins.methods.weighting import Weighting

from ..step.batch import Measurement, StepBatch
from ..step.nonfinite import finite_norms
from .loss_weighting import task_weights

if TYPE_CHECKING:
    from .base import StepOptimWrapper

PATIENCE = 100
"""Batches that are read first after one in which a task was absent or not finite: a wrong guess costs a forward."""


class UnexpectedBatchError(Exception):
    """Other tasks take part than those that were differentiated; ``args[0]`` is the measurement."""


class LateRead:
    """Takes all tasks whose losses have a graph to be present and finite, which the read then confirms or not.

    That is done on one process, without accumulation, with weights that do not depend on the losses of the batch, and
    while no batch is different.

    Attributes:
        finite: Whether the norms of the gradients that are to be stepped are finite, if the host knows.
    """

    def __init__(self) -> None:
        self._wait = 1
        self.finite: bool | None = None

    def begins(self, batch: StepBatch, weighting: Weighting, active: Sequence[str] | None = None) -> bool:
        """Measure without a read where that may be; False, and nothing is measured, where it may not."""
        self._wait, first = max(self._wait - 1, 0), self._wait > 0
        return not first and not weighting.looks_at_losses and batch.measure_later(active)

    @staticmethod
    def weights(batch: StepBatch, weighting: Weighting) -> dict[str, float]:
        """The weights of all tasks, where those that are expected are present."""
        present = torch.tensor([task in batch.expected for task in batch.tasks])
        return dict(zip(batch.tasks, weighting.weights(torch.zeros(len(present)).double(), present).tolist()))

    def read(self, batch: StepBatch, members: Collection[str], also: Tensor | None) -> tuple[Measurement, list[float]]:
        """The measurement, and the numbers ``also``.

        Raises:
            UnexpectedBatchError: If of ``members`` other tasks take part than was expected.
        """
        measured, numbers = batch.read(also)
        if not batch.as_expected(measured, members):
            self._wait = PATIENCE
            raise UnexpectedBatchError(measured)
        return measured, numbers

    def backward(
        self, wrapper: StepOptimWrapper, batch: StepBatch, weighting: Weighting, group: Collection[str]
    ) -> Measurement:
        """The gradient of the weighted sum over ``group`` as far as it takes part, after :meth:`begins`."""
        weights = self.weights(batch, weighting)
        expected = [task for task in batch.expected if task in group]
        without = [parameter for parameter in wrapper._trainable() if parameter.grad is None]
        if expected:
            batch.backward(expected, weights)
        checks = wrapper.guard.check_grads and not wrapper.precision.uses_scaler
        gradients = [p.grad for p in wrapper._trainable() if p.grad is not None] if checks else []
        flag = finite_norms(gradients) if gradients else None
        try:
            measured, numbers = self.read(batch, group, None if flag is None else flag.reshape(1))
        except UnexpectedBatchError as unexpected:
            wrapper.zero_grad()
            for parameter in without:  # which a wrapper may clear to zeros
                parameter.grad = None
            for task in expected:
                batch.weights.pop(task, None)  # those of groups before this one stay
            measured, numbers = unexpected.args[0], []
            members = [task for task in measured.members if task in group]
            if members:
                batch.backward(members, task_weights(weighting, measured))
        batch.release()
        self.finite = bool(numbers[0]) if numbers else None
        return measured
