"""What strategies with one gradient per task share: taking the gradients, averaging and checking them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.optim import Optimizer

from mtl_plugins.errors import UserError
from mtl_plugins.registry import WEIGHTINGS

from ..methods import build_part
from ..step.batch import Measurement, StepBatch
from ..step.gradients import Found, ParameterSplit, SharedLayout, accumulate, add_found, caught
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

    maps_parameters = True

    def __init__(
        self, optimizer: Optimizer, weighting: dict[str, Any] | None = None, row_dtype: str = 'fp32', **kwargs: Any
    ) -> None:
        if row_dtype not in ROW_DTYPES:
            raise UserError(f'row_dtype must be one of {list(ROW_DTYPES)}, but got {row_dtype!r}')
        self.weighting = build_part(WEIGHTINGS, weighting or dict(type='EqualWeighting'), 'weighting')
        refuse_grad_norms(self.weighting, type(self).__name__)
        self.row_dtype = ROW_DTYPES[row_dtype]
        self.split: ParameterSplit | None = None
        self.settled = False
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

        Where a gradient arrives at a parameter that its task was not known to reach, on any rank, the rows that come
        back are laid out anew, unless they are to be compared with earlier rows of this step (``settled``): what only
        shows there is left to the next batch.

        Args:
            batch: Freshly measured with a graph for ``members``.
            members: Usable tasks.
            loss_weights: Factor per task.

        Returns:
            ``[K, D]`` on the optimizer's device, without loss scale. The gradients of the members' own parameters are
            in their ``.grad``, with loss scale, ready for the step.
        """
        flat = rows = None
        found: Found = {}
        for shares in batch.shares(members, backwards=len(members)):
            if rows is None:
                if not self.settled:
                    self.learn_parameters(members, shares)
                width = self.split.shared.width
                # The last number tells the other ranks that something was found.
                flat = torch.zeros(len(members) * width + 1, dtype=self.row_dtype, device=self._device)
                rows = flat[:-1].view(len(members), width)
                self._say_memory(rows)
            # The last head goes first, as in a backward of the sum, so that memory peaks no higher than there.
            present = [task for task in reversed(members) if task in shares]
            for task in present:
                # The graph of a head is freed when its row is taken, that of the shared part with the last row.
                loss = self.precision.scale(shares.pop(task) * loss_weights[task])
                self._differentiate(task, loss, rows[members.index(task)], found, retain_graph=task != present[-1])
                del loss
        if self.split.any_found(flat, found) and not self.settled:
            rows = self._lay_out_anew(members, rows, found)
        # Only what this call added: gradients of other tasks may lie there, summed already.
        self.reducer.sum_gradients([parameter for task in members for parameter in self.split.own(task)])
        return rows.div_(self.precision.loss_scale) if self.precision.uses_scaler else rows

    def _differentiate(self, task: str, loss: Tensor, row: Tensor, found: Found, retain_graph: bool) -> None:
        """Add the gradient of ``loss`` to the task's row, to the ``.grad`` of its own parameters, and to ``found``."""
        shared, own, others = self.split.shared, self.split.own(task), self.split.others(task)
        wanted = [*shared.parameters, *own, *others]
        if not wanted:
            return
        if shared.matches(row):
            with shared.collect(row), caught(others, found.setdefault(task, {})):
                loss.backward(inputs=wanted, retain_graph=retain_graph)
            return
        gradients = torch.autograd.grad(loss, wanted, retain_graph=retain_graph, allow_unused=True)
        first, last = len(shared.parameters), len(wanted) - len(others)
        shared.add_to_row(row, gradients[:first])
        accumulate(own, gradients[first:last])
        add_found(found.setdefault(task, {}), others, gradients[last:])

    def _lay_out_anew(self, members: Sequence[str], rows: Tensor, found: Found) -> Tensor:
        """The rows with columns for parameters that turned out to be shared; rank-averaged as those that were there."""
        before, own = self.split.shared, {task: set(self.split.own(task)) for task in members}
        self.split.learn(found)
        self._columns_changed()
        known = set(before.parameters)
        added = SharedLayout([p for p in self.split.shared.parameters if p not in known])
        parts = torch.zeros(len(members), added.width, dtype=rows.dtype, device=rows.device)
        for row, task in zip(parts, members):
            gradients = found.get(task, {})
            added.add_to_row(row, [p.grad if p in own[task] else gradients.get(p) for p in added.parameters])
            mine = self.split.own(task)
            accumulate(mine, [gradients.get(p) for p in mine])
        for parameter in added.parameters:
            parameter.grad = None
        self.reducer.sum(parts)
        columns = dict(zip(before.parameters, rows.split(before.sizes, dim=1)))
        columns.update(zip(added.parameters, parts.split(added.sizes, dim=1)))
        nothing = rows.new_zeros(len(rows), 0)  # what is new may be each task's own
        return torch.cat([nothing, *(columns[p] for p in self.split.shared.parameters)], dim=1)

    def finite_rows(self, batch: StepBatch, members: Sequence[str], rows: Tensor) -> list[str]:
        """Members whose gradients are finite; the others are reported and lose those of their own parameters.

        Rows that are exactly zero are noted in ``batch``.

        With fp16 one bad gradient makes the whole step overflow, which the scaler then skips: the list is empty, and
        no method sees the step.
        """
        lengths = _lengths(rows)
        flags = torch.isfinite(lengths)
        for index, task in enumerate(members):
            for parameter in self.split.own(task):
                if parameter.grad is not None:
                    flags[index] &= torch.isfinite(parameter.grad).all()
        finite, none = torch.stack([flags, lengths == 0]).tolist()
        # The squares of small numbers vanish, so that the last word is theirs.
        batch.zero_rows = [task for task, zero, row in zip(members, none, rows) if zero and not bool(row.any())]
        if all(finite):
            return list(members)
        if self.precision.uses_scaler:
            for parameter in self.split.shared.parameters:
                parameter.grad = torch.full_like(parameter, float('inf'))
            return []
        for task, is_finite in zip(members, finite):
            if not is_finite:
                self.guard.report(task, 'gradient')
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
        """Find out which of the parameters that are trainable now are shared."""
        if self.split is None:
            self.split = ParameterSplit(self.parameter_table(), self.reducer, self._saved_parameters)
        self.split.follow(self._trainable())
        self.split.update(members, shares)
        self._columns_changed()

    def _columns_changed(self) -> None:
        """Called whenever the columns of the rows may have changed, before a method sees rows."""

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


def _lengths(rows: Tensor) -> Tensor:
    """A length per row that is finite where the row is, without a mask or a copy as large as the rows."""
    if rows.dtype == torch.float32 or not rows.shape[1]:
        lengths = torch.linalg.vector_norm(rows, dim=1)
        if bool(torch.isfinite(lengths).all()):
            return lengths
    # Squares of large finite numbers overflow, and those of 16 bits would be taken from a copy in 32 bits: there, and
    # for rows of 16 bits from the start, the largest magnitude has the word.
    return torch.linalg.vector_norm(rows, float('inf'), dim=1)
