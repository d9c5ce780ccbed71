"""The weighted sum of the task losses: ordinary training, and every loss-weighting method."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import torch
from torch.optim import Optimizer

from mtl_plugins.errors import UserError, UserRuntimeError
from mtl_plugins.registry import OPTIM_WRAPPERS
from mtl_plugins.utils.argument_types import Count

from ..step.batch import Measurement, StepBatch
from ..step.grad_norms import gradient_norms
from ..step_cost import StepCost
from .base import StepOptimWrapper
from .loss_weighting import advance, build_weighting, task_weights


@OPTIM_WRAPPERS.register_module()
class MultiTaskOptimWrapper(StepOptimWrapper):
    """One forward, one backward of ``sum_k w_k L_k``, one step.

    With equal weights it moves the weights exactly as MMEngine's ``OptimWrapper`` does, bit for bit.

    Args:
        optimizer: The optimizer that is stepped.
        weighting: Config of the loss weighting.
        shared_layer: Name of the layer whose gradients GradNorm and EMTL compare; None takes the last shared one.
        passes: How often the whole step is repeated on the same batch; the baseline that costs as much as STGU with
            ``passes`` groups.
        **kwargs: See :class:`mtl_plugins.engine.optim_wrappers.base.StepOptimWrapper`.

    Raises:
        ValueError: If ``passes`` is not a positive integer.

    Example:
        >>> import torch
        >>> from mtl_plugins.engine.optim_wrappers import MultiTaskOptimWrapper
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> wrapper = MultiTaskOptimWrapper(torch.optim.SGD([x], lr=0.1))
        >>> def losses(active=None, *, grad=True):
        ...     return dict(norm=x.square().sum(), first=-3 * x[0])
        >>> wrapper.step_tasks(losses)  # a model of MMEngine does this in its train_step
        >>> x.data
        tensor([1.1000, 1.6000])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        weighting: dict[str, Any] | None = None,
        passes: Count = 1,
        shared_layer: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, **kwargs)
        self.weighting = build_weighting(self, weighting, brings_grad_norms=True)
        self.passes = passes
        self.maps_parameters = self.weighting.needs_grad_norms
        self.shared_layer = shared_layer
        if not self.weighting.accumulates_exactly and self._accumulative_counts != 1:
            raise UserError(
                f'{type(self.weighting).__name__} needs the gradient norms of the whole batch before its backward, '
                'which gradient accumulation cannot give: use accumulative_counts=1'
            )

    @property
    def method_parts(self) -> tuple[str, ...]:
        """The weighting."""
        return (type(self.weighting).__name__,)

    def cost_per_batch(self) -> StepCost:
        """``passes`` times that of the step."""
        return StepCost(*(self.passes * count for count in astuple(super().cost_per_batch())))

    def _step_tasks(self, batch: StepBatch) -> None:
        for _ in range(self.passes):
            self.weighting.begin_step(self.generator)
            if not self.weighting.needs_grad_norms and self.late.begins(batch, self.weighting):
                measured = self.late.backward(self, batch, self.weighting, self.task_names)
                advance(self.weighting, batch, measured, self.finish_step())
                continue
            measured = batch.measure()
            members = measured.members
            if not members:
                batch.release()
                continue
            if self.weighting.needs_grad_norms:
                self._tell_grad_norms(batch, members, measured)
            batch.backward(members, task_weights(self.weighting, measured), self._trainable())
            advance(self.weighting, batch, measured, self.finish_step())

    def _tell_grad_norms(self, batch: StepBatch, members: list[str], measured: Measurement) -> None:
        if self.policy is None:
            raise UserRuntimeError(
                f'{type(self.weighting).__name__} needs a model; call attach(model) before step_tasks()'
            )
        for shares in batch.shares(members, keep=True):
            self.learn_parameters(members, shares)
        norms = gradient_norms(batch, members, self.split, self.shared_layer)
        batch.zero_rows = [task for task, norm in norms.items() if norm == 0]
        values = torch.tensor([norms.get(task, 0.0) for task in self.task_names], dtype=torch.float64)
        losses = torch.nan_to_num(measured.losses, nan=0.0)
        self.weighting.observe_grad_norms(values, losses, measured.usable)
