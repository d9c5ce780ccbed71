"""What strategies with one gradient per task share: taking the gradients, averaging and checking them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.registry import WEIGHTINGS

from ..methods import build_part
from ..step_batch import Measurement, StepBatch
from ..task_gradients import ParameterSplit
from .base import StepOptimWrapper

ROW_DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}


class TaskGradientOptimWrapper(StepOptimWrapper):
    """Base of the strategies that take each task's gradient by itself.

    Rows are gradients with respect to the shared parameters, averaged over ranks and micro-batches before anything is
    done with them. A parameter that one task alone uses ("own") gets that task's gradient.

    Args:
        optimizer: The optimizer that is stepped.
        weighting: Config of a loss weighting that scales the tasks' losses first; None is none.
        row_dtype: ``'fp32'``, or ``'bf16'`` to halve the memory of the rows.
        **kwargs: See :class:`mtl_plugins.engine.optim_wrappers.base.StepOptimWrapper`.

    Raises:
        ValueError: If ``row_dtype`` is unknown.
    """

    def __init__(
        self, optimizer: Optimizer, weighting: dict[str, Any] | None = None, row_dtype: str = 'fp32', **kwargs: Any
    ) -> None:
        if row_dtype not in ROW_DTYPES:
            raise ValueError(f'row_dtype must be one of {list(ROW_DTYPES)}, but got {row_dtype!r}')
        self.weighting = build_part(WEIGHTINGS, weighting or dict(type='EqualWeighting'), 'weighting')
        self.row_dtype = ROW_DTYPES[row_dtype]
        self.split: ParameterSplit | None = None
        self._said_memory = False
        super().__init__(optimizer, **kwargs)

    def usable_tasks(self, measured: Measurement) -> list[str]:
        """Names of the tasks that take part."""
        return [task for task, usable in zip(self.task_names, measured.usable.tolist()) if usable]

    def rows(self, batch: StepBatch, members: Sequence[str], loss_weights: Mapping[str, float]) -> Tensor:
        """Averaged gradients of the members' weighted losses.

        Args:
            batch: Freshly measured with a graph for ``members``.
            members: Usable tasks.
            loss_weights: Factor per task.

        Returns:
            ``[K, D]`` on the optimizer's device, without loss scale. The gradients of the members' own parameters are
            in their ``.grad``, with loss scale, ready for the step.
        """
        rows = None
        for shares in batch.shares(members):
            if rows is None:
                self.learn_parameters(members, shares)
                rows = torch.zeros(len(members), self.split.shared.width, dtype=self.row_dtype, device=self._device)
                self._say_memory(rows)
            present = [task for task in members if task in shares]
            for task in present:
                own = self.split.own(task)
                shared = self.split.shared
                loss = self.precision.scale(shares[task] * loss_weights[task])
                wanted = [*shared.parameters, *own]
                gradients = torch.autograd.grad(loss, wanted, retain_graph=task != present[-1], allow_unused=True)
                shared.add_to_row(rows[members.index(task)], gradients[: len(shared.parameters)])
                accumulate(own, gradients[len(shared.parameters) :])
        self.reducer.sum(rows)
        self.reducer.sum_gradients(self._trainable())
        return rows / self.precision.loss_scale if self.precision.uses_scaler else rows

    def finite_rows(self, members: Sequence[str], rows: Tensor) -> list[str]:
        """Members whose rows are finite; the others are reported and lose the gradients of their own parameters.

        With fp16 one bad row makes the whole step overflow, which the scaler then skips: the list is empty.
        """
        finite = torch.isfinite(rows).all(dim=1).tolist()
        if all(finite):
            return list(members)
        if self.precision.uses_scaler:
            for parameter in self.split.shared.parameters:
                parameter.grad = torch.full_like(parameter, float('inf'))
            return []
        for task, is_finite in zip(members, finite):
            if not is_finite:
                self.guard.report(task)
                for parameter in self.split.own(task):
                    parameter.grad = None
        return [task for task, is_finite in zip(members, finite) if is_finite]

    def write_shared(self, update: Tensor) -> None:
        """Make ``update`` ``[D]`` the gradient of the shared parameters."""
        self.split.shared.write(update * self.precision.loss_scale if self.precision.uses_scaler else update)

    def learn_parameters(self, members: Sequence[str], shares: Mapping[str, Tensor]) -> None:
        """Find out which parameters are shared, for tasks that are present for the first time."""
        if self.split is None:
            model = self.policy.model if self.policy is not None else nn.ParameterList(self._trainable())
            table = self.policy.parameters if self.policy is not None else None
            self.split = ParameterSplit(model, self._trainable(), self.reducer, table)
        self.split.update(members, [shares])

    def _say_memory(self, rows: Tensor) -> None:
        if self._said_memory:
            return
        self._said_memory = True
        own = sum(parameter.numel() for task in self.task_names for parameter in self.split.own(task))
        print_log(
            f'{self.method_name}: {rows.shape[1]:,} shared and {own:,} task-specific parameters; '
            f'{rows.numel() * rows.element_size() / 2**20:.1f} MiB for the gradients of {rows.shape[0]} tasks',
            logger='current',
        )

    def _bind(self) -> None:
        self.weighting.bind(self.task_names)

    def strategy_state(self) -> dict[str, Any]:
        """State of the weighting."""
        return dict(weighting=self.weighting.state_dict())

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        self.weighting.load_state_dict(state['weighting'])


def accumulate(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients to ``.grad``; None adds nothing."""
    for parameter, gradient in zip(parameters, gradients):
        if gradient is not None:
            parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)
