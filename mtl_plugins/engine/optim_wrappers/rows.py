"""What strategies with one gradient per task share: taking the gradients, averaging and checking them."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.utils.kept_memory import KeptMemory

from ..step.batch import Measurement, StepBatch
from ..step.gradients import Found, SharedLayout, accumulate
from ..step.row_shards import Shard, ShardedRows
from ..step.task_rows import TaskRows
from ..step_cost import StepCost, StepSetup
from .base import StepOptimWrapper
from .combining import RowCombiner
from .late_read import UnexpectedBatchError
from .loss_weighting import advance, build_weighting, task_weights


class TaskGradientOptimWrapper(StepOptimWrapper):
    """Base of the strategies that take each task's gradient by itself.

    Rows are gradients with respect to the shared parameters, averaged over ranks and micro-batches before anything is
    done with them. A parameter that one task alone uses ("own") gets that task's gradient. A shared one that no task of
    a batch reaches, such as those of a skipped block, gets zeros, so that momentum and weight decay go on moving it.

    Args:
        optimizer: The optimizer that is stepped.
        weighting: Config of a loss weighting that scales the tasks' losses first; None is none.
        row_dtype: ``'fp32'``, or ``'bf16'`` to halve the memory of the rows.
        **kwargs: See :class:`mtl_plugins.engine.optim_wrappers.base.StepOptimWrapper`.

    Raises:
        ValueError: If ``row_dtype`` is unknown, or the weighting needs gradient norms.
    """

    maps_parameters = True
    combiner: RowCombiner | None = None
    """What makes one update of the rows, in strategies that do."""

    def __init__(
        self,
        optimizer: Optimizer,
        weighting: dict[str, Any] | None = None,
        row_dtype: Literal['fp32', 'bf16'] = 'fp32',
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, **kwargs)
        self.weighting = build_weighting(self, weighting)
        self.row_dtype = torch.bfloat16 if row_dtype == 'bf16' else torch.float32
        self.settled = False
        #: Task -> length of its row in the last step.
        self.lengths: dict[str, float] = {}
        self._said_memory = False
        self._memory = KeptMemory()

    @classmethod
    def cost(cls, setup: StepSetup) -> StepCost:
        """One forward, K backwards over the shared part."""
        return replace(super().cost(setup), backwards=setup.num_tasks)

    def _step_tasks(self, batch: StepBatch) -> None:
        self.weighting.begin_step(self.generator)
        if self.begins_with_rows and self.late.begins(batch, self.weighting):
            try:
                if batch.expected:
                    return self._take_step(batch, self.late.weights(batch, self.weighting), None)
                measured, _ = self.late.read(batch, batch.tasks, None)
            except UnexpectedBatchError as unexpected:
                self.zero_grad()
                batch.weights.clear()
                batch.release()
                measured = unexpected.args[0]
        else:
            measured = batch.measure()
        if not measured.members:
            batch.release()
            return None
        return self._take_step(batch, task_weights(self.weighting, measured), measured)

    def _take_step(self, batch: StepBatch, factors: dict[str, float], measured: Measurement | None) -> None:
        """Step along the gradients of ``factors`` times the losses; without a measurement, rows come before a read."""
        self._measured = measured
        losses = torch.tensor(list(factors.values()), dtype=torch.float64)
        self._losses = losses if measured is None else losses.mul_(measured.losses)
        weights = {t: factors[t] for t in (batch.expected if measured is None else measured.members)}
        batch.weights.update(weights)
        moved = self.step(**(self.set_gradients(batch, weights, losses) or {}))
        self.zero_grad()
        advance(self.weighting, batch, self._measured, moved)

    @property
    def begins_with_rows(self) -> bool:
        """Whether :meth:`set_gradients` begins with :meth:`finite_rows` next, and looks at no loss before."""
        return False

    def make_combiner(
        self,
        aggregator: dict[str, Any],
        rescale: str | None,
        heads: str | None = 'sum',
        normalise: str | None = None,
    ) -> RowCombiner:
        """A combiner whose aggregator knows the tasks as soon as they are known."""
        combiner = RowCombiner(aggregator, self.reducer, self.generator, rescale, heads, normalise)
        self.when_tasks_are_known(combiner.aggregator.bind)
        return combiner

    @property
    def method_parts(self) -> tuple[str, ...]:
        """The loss weighting and the aggregator."""
        return () if self.combiner is None else (type(self.weighting).__name__, *self.combiner.aggregator.parts)

    @abstractmethod
    def set_gradients(self, batch: StepBatch, weights: dict[str, float], losses: Tensor) -> dict[str, Any] | None:
        """Give every parameter the gradient to step along, summed over ranks and with loss scale.

        Args:
            batch: Freshly measured with a graph for the usable tasks.
            weights: Usable task -> factor on its loss; at least one.
            losses: ``[K]`` float64: the losses of all tasks times their factors; known after :meth:`finite_rows`.

        Returns:
            Keyword arguments of the optimizer's step; None for none.
        """

    def rows(self, batch: StepBatch, weights: Mapping[str, float], sharded: bool = False) -> TaskRows:
        """Averaged gradients of the weighted losses.

        Where a gradient arrives at a parameter that its task was not known to reach, on any rank, the rows that come
        back are laid out anew, unless they are to be compared with earlier rows of this step (``settled``): what only
        shows there is left to the next batch.

        Args:
            batch: Freshly measured with a graph for these tasks.
            weights: Usable task -> factor on its loss.
            sharded: Whether each rank needs its share of the columns only.

        Returns:
            Rows on the optimizer's device, without loss scale. The gradients of the tasks' own parameters are in
            their ``.grad``, with loss scale, ready for the step.
        """
        rows: TaskRows | None = None
        for shares in batch.shares(weights, backwards=len(weights)):
            if rows is None:
                if not self.settled:
                    self.learn_parameters(weights, shares)
                layout = self.split.shared, self._device, self.row_dtype
                if sharded:
                    rows = ShardedRows(weights, *layout, self.reducer)
                else:
                    rows = TaskRows.zeros(weights, *layout, self._memory)
                self._say_memory(rows.held)
            # The last reference to a task's part of the graph moves along.
            losses = {task: self.precision.scale(shares.pop(task) * weights[task]) for task in list(shares)}
            rows.add(losses, self.split.own, self.split.others, direct=True)
        if self.split.any_found(rows.flat, rows.found) and not self.settled:
            rows = self._lay_out_anew(rows)
        # Only what this call added: gradients of other tasks may lie there, summed already.
        self.reducer.sum_gradients([parameter for task in weights for parameter in self.split.own(task)])
        if self.precision.uses_scaler:
            rows.matrix.div_(self.precision.loss_scale)
        return rows

    def _lay_out_anew(self, rows: TaskRows) -> TaskRows:
        """The rows with columns for parameters that turned out to be shared; rank-averaged as those that were there."""
        if isinstance(rows, ShardedRows):
            anew = self._lay_out_anew(rows.whole())
            shard = Shard(anew.layout.width, self.reducer)
            return TaskRows(anew.tasks, shard.cut(anew.matrix), anew.layout, shard)
        columns = rows.layout.parts(rows.matrix)
        added, parts = self.newly_shared(rows.tasks, rows.found, rows.matrix)
        columns.update(added.parts(parts))
        nothing = parts.new_zeros(len(parts), 0)  # what is new may be each task's own
        matrix = torch.cat([nothing, *(columns[p] for p in self.split.shared.parameters)], dim=1)
        return TaskRows(rows.tasks, matrix, self.split.shared)

    def newly_shared(self, tasks: Sequence[str], found: Found, like: Tensor) -> tuple[SharedLayout, Tensor]:
        """Take note of what was found; the parameters that are shared only from now on, and their rows over ranks."""
        own, known = {task: set(self.split.own(task)) for task in tasks}, set(self.split.shared.parameters)
        self.split.learn(found)
        added = SharedLayout([p for p in self.split.shared.parameters if p not in known])
        parts = like.new_zeros(len(tasks), added.width)
        for row, task in zip(parts, tasks):
            gradients = found.get(task, {})
            added.add_to_row(row, [p.grad if p in own[task] else gradients.get(p) for p in added.parameters])
            mine = self.split.own(task)
            accumulate(mine, [gradients.get(p) for p in mine])
        for parameter in added.parameters:
            parameter.grad = None
        return added, self.reducer.sum(parts)

    def finite_rows(self, batch: StepBatch, rows: TaskRows) -> TaskRows:
        """The rows that are finite; the other tasks are reported and lose the gradients of their own parameters.

        Rows that are exactly zero are noted in ``batch``.

        With fp16 one bad gradient makes the whole step overflow, which the scaler then skips: no row is left, and no
        method sees the step.
        """
        if rows.shard is None:
            lengths, finite = self._read_rows(batch, rows)
            none = [length == 0 for length in lengths]
            self.lengths = dict(zip(rows.tasks, lengths))
        else:
            largest = _largest(rows.matrix) if rows.matrix.shape[1] else rows.matrix.new_zeros(len(rows.tasks))
            seen = self.reducer.sum(torch.stack([~torch.isfinite(largest), largest != 0]).float())
            finite, none = torch.stack([self.finite_own(rows.tasks, seen[0] == 0), seen[1] == 0]).tolist()
        # The squares of small numbers vanish, so that the last word is theirs.
        batch.zero_rows = [
            task
            for task, zero, row in zip(rows.tasks, none, rows.matrix)
            if zero and (rows.shard is not None or not bool(row.any()))
        ]
        return rows.select(self.finite_tasks(rows.tasks, finite))

    def finite_own(self, tasks: Sequence[str], finite: Tensor) -> Tensor:
        """Flags of tasks whose gradients are finite, where those of their own parameters are so, too."""
        flags = finite.clone()
        for index, task in enumerate(tasks):
            for parameter in self.split.own(task):
                if parameter.grad is not None:
                    flags[index] &= torch.isfinite(parameter.grad).all()
        return flags

    def finite_tasks(self, tasks: Sequence[str], finite: Sequence[bool]) -> list[str]:
        """The tasks to go on with: see :meth:`finite_rows`."""
        if self.precision.uses_scaler and not all(finite):
            for parameter in self.split.shared.parameters:
                parameter.grad = torch.full_like(parameter, float('inf'))
            return []
        return self.without_bad(tasks, finite)

    def _read_rows(self, batch: StepBatch, rows: TaskRows) -> tuple[list[float], list[bool]]:
        """Length of each row, and whether it and its task's own gradients are finite; one read, of losses too if due.

        A length is finite where the row is; the Euclidean one needs neither a mask nor a copy as large as the rows.
        Squares of large finite numbers overflow, and those of 16 bits would be taken from a copy in 32 bits: there, and
        for rows of 16 bits from the start, the largest magnitude decides.
        """
        plain = rows.matrix.dtype == torch.float32 or not rows.matrix.shape[1]
        flags = self.finite_own(rows.tasks, torch.ones(len(rows.tasks), dtype=torch.bool, device=rows.matrix.device))
        for order in (2.0, float('inf')) if plain else (float('inf'),):
            lengths = torch.linalg.vector_norm(rows.matrix, order, dim=1).double()
            numbers = self._read(batch, torch.cat([lengths, flags.double()]))
            lengths, own = numbers[: len(rows.tasks)], numbers[len(rows.tasks) :]
            finite = [math.isfinite(length) for length in lengths]
            if all(finite):
                break
        return lengths, [each and bool(mine) for each, mine in zip(finite, own)]

    def _read(self, batch: StepBatch, numbers: Tensor) -> list[float]:
        """The numbers; with them, in the same read, the losses where they are due."""
        if self._measured is not None:
            return numbers.tolist()
        self._measured, found = self.late.read(batch, batch.tasks, numbers)
        self._losses.mul_(self._measured.losses)
        return found

    def without_bad(self, members: Sequence[str], finite: Sequence[bool]) -> list[str]:
        """The members whose gradients are finite; the others are reported and lose those of their own parameters."""
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

    def _say_memory(self, size: int, how: str = '') -> None:
        """Log, once, how many bytes the gradients of all tasks take."""
        if self._said_memory:
            return
        self._said_memory = True
        shared = self.split.shared.width
        own = sum(parameter.numel() for task in self.task_names for parameter in self.split.own(task))
        print_log(
            f'{self.method_name}: {shared:,} shared and {own:,} task-specific parameters; '
            f'{size / 2**20:.1f} MiB for the gradients of {len(self.task_names)} tasks{how}',
            logger='current',
        )

    def attach(self, model: nn.Module) -> None:
        """As the base; learns whether a hook takes care of what is spread over ranks."""
        super().attach(model)
        if self.combiner is not None:
            self.combiner.is_gathered = self.saves_are_announced

    def gather_state(self) -> None:
        """As the base, with the combiner's."""
        super().gather_state()
        if self.combiner is not None:
            self.combiner.gather_state()

    def strategy_state(self) -> dict[str, Any]:
        """As the base, with the combiner's."""
        return {**super().strategy_state(), **({} if self.combiner is None else self.combiner.state_dict())}

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        super().load_strategy_state(state)
        if self.combiner is not None:
            self.combiner.load_state_dict(state)


def _largest(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, float('inf'), dim=1)
