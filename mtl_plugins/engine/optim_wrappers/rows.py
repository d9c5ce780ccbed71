"""What strategies with one gradient per task share: taking the gradients, averaging and checking them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.errors import UserError
from mtl_plugins.registry import WEIGHTINGS

from ..methods import build_part
from ..step_batch import Measurement, StepBatch
from ..task_gradients import ParameterSplit, accumulate
from .base import StepOptimWrapper
from .weighted_sum import refuse_grad_norms, task_weights

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
        ValueError: If ``row_dtype`` is unknown, or the weighting needs gradient norms.
    """

    def __init__(
        self, optimizer: Optimizer, weighting: dict[str, Any] | None = None, row_dtype: str = 'fp32', **kwargs: Any
    ) -> None:
        if row_dtype not in ROW_DTYPES:
            raise UserError(f'row_dtype must be one of {list(ROW_DTYPES)}, but got {row_dtype!r}')
        self.weighting = build_part(WEIGHTINGS, weighting or dict(type='EqualWeighting'), 'weighting')
        refuse_grad_norms(self.weighting, type(self).__name__)
        self.row_dtype = ROW_DTYPES[row_dtype]
        self.split: ParameterSplit | None = None
        self._said_memory = False
        self._saved_parameters: dict[str, list[str]] = {}
        super().__init__(optimizer, **kwargs)

    def begin(self, batch: StepBatch) -> tuple[Measurement, list[str], dict[str, float]]:
        """Measure all tasks with graph: the measurement, the usable tasks, and the factors on their losses.

        Without a usable task the graph is dropped and there is nothing to step.
        """
        self.weighting.begin_step(self.generator)
        measured = batch.measure()
        members = self.usable_tasks(measured)
        if not members:
            batch.release()
            return measured, [], {}
        weights = task_weights(self.weighting, measured, self.task_names)
        batch.weights.update({task: weights[task] for task in members})
        return measured, members, weights

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
        for shares in batch.shares(members, backwards=len(members)):
            if rows is None:
                self.learn_parameters(members, shares)
                rows = torch.zeros(len(members), self.split.shared.width, dtype=self.row_dtype, device=self._device)
                self._say_memory(rows)
            # The last head goes first, as in a backward of the sum, so that memory peaks no higher than there.
            present = [task for task in reversed(members) if task in shares]
            for task in present:
                # The graph of a head is freed when its row is taken, that of the shared part with the last row.
                loss = self.precision.scale(shares.pop(task) * loss_weights[task])
                self._differentiate(task, loss, rows[members.index(task)], retain_graph=task != present[-1])
                del loss
        self.reducer.sum(rows)
        # Only what this call added: gradients of other tasks may lie there, summed already.
        self.reducer.sum_gradients([parameter for task in members for parameter in self.split.own(task)])
        return rows.div_(self.precision.loss_scale) if self.precision.uses_scaler else rows

    def _differentiate(self, task: str, loss: Tensor, row: Tensor, retain_graph: bool) -> None:
        """Add the gradient of ``loss`` to the task's row and to the ``.grad`` of its own parameters."""
        shared, own = self.split.shared, self.split.own(task)
        wanted = [*shared.parameters, *own]
        if shared.matches(row):
            with shared.collect(row):
                loss.backward(inputs=wanted, retain_graph=retain_graph)
            return
        gradients = torch.autograd.grad(loss, wanted, retain_graph=retain_graph, allow_unused=True)
        shared.add_to_row(row, gradients[: len(shared.parameters)])
        accumulate(own, gradients[len(shared.parameters) :])

    def finite_rows(self, members: Sequence[str], rows: Tensor) -> list[str]:
        """Members whose gradients are finite; the others are reported and lose those of their own parameters.

        With fp16 one bad gradient makes the whole step overflow, which the scaler then skips: the list is empty, and
        no method sees the step.
        """
        flags = _finite(rows)
        for index, task in enumerate(members):
            for parameter in self.split.own(task):
                if parameter.grad is not None:
                    flags[index] &= torch.isfinite(parameter.grad).all()
        finite = flags.tolist()
        if all(finite):
            return list(members)
        if self.precision.uses_scaler:
            for parameter in self.split.shared.parameters:
                parameter.grad = torch.full_like(parameter, float('inf'))
            return []
        for task, is_finite in zip(members, finite):
            if not is_finite:
                self.guard.report(task)
                self.drop_own(task)
        return [task for task, is_finite in zip(members, finite) if is_finite]

    def drop_own(self, task: str) -> None:
        """Leave the task's own parameters without gradient."""
        for parameter in self.split.own(task):
            parameter.grad = None

    def write_shared(self, update: Tensor) -> None:
        """Make ``update`` ``[D]`` the gradient of the shared parameters."""
        self.split.shared.write(update * self.precision.loss_scale if self.precision.uses_scaler else update)

    def learn_parameters(self, members: Sequence[str], shares: Mapping[str, Tensor]) -> None:
        """Find out which parameters are shared, for tasks that are present for the first time."""
        if self.split is None:
            model = self.policy.model if self.policy is not None else nn.ParameterList(self._trainable())
            table = self.policy.parameters if self.policy is not None else None
            self.split = ParameterSplit(model, self._trainable(), self.reducer, table, self._saved_parameters)
        if self.split.update(members, [shares]):
            self._layout_changed()

    def _layout_changed(self) -> None:
        """Called when a task that appears for the first time changes which parameters are shared."""

    def advance_weighting(self, batch: StepBatch, measured: Measurement, moved: bool) -> None:
        """Tell the weighting that a step is over; a step that was skipped leaves its state alone."""
        if not moved:
            return
        after = batch.measure((), grad=False).losses if self.weighting.needs_after_step else None
        self.weighting.after_step(measured.losses, after, measured.usable)

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
        """State of the weighting, and which task uses which parameters."""
        used = self.split.export() if self.split is not None else self._saved_parameters
        return dict(weighting=self.weighting.state_dict(), parameters=used)

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        self.weighting.load_state_dict(state['weighting'])
        # Without it the first batch after a resume would have to show all tasks, or rows would change their length.
        self._saved_parameters = {task: list(names) for task, names in state['parameters'].items()}
        self.split = None


def _finite(rows: Tensor) -> Tensor:
    """Which rows hold neither NaN nor infinity, without a mask or a copy as large as the rows."""
    if rows.dtype == torch.float32:
        finite = torch.isfinite(torch.linalg.vector_norm(rows, dim=1))
        if bool(finite.all()):
            return finite
    # Squares of large finite numbers overflow, and those of 16 bits would be taken from a copy in 32 bits: there, and
    # for rows of 16 bits from the start, the largest magnitude has the word.
    return torch.isfinite(torch.linalg.vector_norm(rows, float('inf'), dim=1))
