"""The combining of rows: one update from one gradient per task, the same on all ranks."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from mtl_plugins.errors import UserError, refusing
from mtl_plugins.methods.aggregation import Aggregator
from mtl_plugins.methods.aggregation.parts import Part
from mtl_plugins.methods.aggregation.rows import gramian, weighted_sum
from mtl_plugins.registry import AGGREGATORS

from ..methods import build_part
from ..step.kept_columns import KeptColumns
from ..step.reduction import Reducer
from ..step.task_rows import TaskRows

Heads = Literal['sum', 'weighted'] | None
Rescale = Literal['sum'] | None


class RowCombiner:
    """An aggregator, its scale, and what its solutions say beyond the update.

    Args:
        cfg: Config of the aggregator.
        reducer: Exchanges numbers with the other ranks.
        generator: For the methods that draw random numbers.
        rescale: See :class:`.aggregation.GradientAggregationOptimWrapper`.
        heads: See there.
        normalise: See there.

    Attributes:
        aggregator: Has to be bound to the tasks before the first call.
        weights: Task -> its weight in the last solution; empty if the update is no weighted sum.
        head_factors: Task -> factor on the gradients of its own parameters; empty for ones.

    Raises:
        UserError: If an argument does not suit the aggregator.
    """

    def __init__(
        self,
        cfg: dict[str, Any],
        reducer: Reducer,
        generator: torch.Generator,
        rescale: Rescale = 'sum',
        heads: Heads = 'sum',
        normalise: str | None = None,
    ) -> None:
        self.aggregator: Aggregator = build_part(AGGREGATORS, cfg, 'aggregator')
        if normalise is not None:
            with refusing('normalise'):
                self.aggregator.normalise_rows(normalise)
        name = type(self.aggregator).__name__
        if not getattr(self.aggregator, 'single_batch', True):
            raise UserError(
                f'{name} wants gradients of {self.aggregator.wants} independent batches per step, which the training '
                'step does not make: set single_batch=True to let one batch stand for all of them'
            )
        if heads == 'weighted' and not self.aggregator.gives_weights:
            raise UserError(f"heads='weighted': {name} has no weight per task; use heads='sum'")
        self._reducer = reducer
        self._generator = generator
        self._rescale = rescale
        self._heads = heads
        self._kept = KeptColumns(self.aggregator.buffer)
        #: Whether somebody calls :meth:`gather_state` on all ranks before a save.
        self.is_gathered = False
        self.weights: dict[str, float] = {}
        self.head_factors: dict[str, float] = {}

    def combine(self, rows: TaskRows, losses: Tensor, columns: Mapping[str, int], gram: Tensor | None = None) -> Tensor:
        """The update ``[D]``.

        Args:
            rows: Finite, on the device that ranks communicate on.
            losses: ``[K]``, of all tasks.
            columns: Name and width of the rows' column blocks.
            gram: The products of the rows, if they are known.
        """
        shard, matrix = rows.shard, rows.matrix
        self._kept.fit(columns, shard)
        if self.aggregator.gramian_only:
            if gram is None:
                gram = gramian(matrix) if shard is None else shard.sum(gramian(matrix), matrix.device)
            weights = self.solve(rows.tasks, gram, losses, matrix.device)
            update = weighted_sum(matrix, weights, dtype=torch.float32)
            return update if shard is None else shard.gather(update)
        # These work on the rows themselves, entry by entry, which takes a copy if the rows are of 16 bits.
        options = self._options(rows.tasks, losses)
        if shard is None:
            update = self._reducer.broadcast(self.aggregator(matrix.float(), **options), matrix.device)
        else:
            self.aggregator.part = Part(shard.start, shard.width, partial(shard.sum, device=matrix.device))
            update = shard.gather(self.aggregator(matrix.float(), **options))
            self.aggregator.part = Part()
        update = update if self._factor() == 1 else update * self._factor()
        weights = self.aggregator.last_weights
        self._remember(rows.tasks, None if weights is None else weights * self._factor(), options['losses'])
        return update

    @property
    def takes_shards(self) -> bool:
        """Whether rows may come with this rank's share of the columns only.

        A method's memory of gradients is then spread as well, so that all ranks have to take part in a save.
        """
        if self._reducer.world_size == 1 or not (self.aggregator.gramian_only or self.aggregator.shardable):
            return False
        return self.aggregator.buffer is None or self.is_gathered

    def solve(self, tasks: Sequence[str], gram: Tensor, losses: Tensor, device: torch.device) -> Tensor:
        """The weights of these tasks' rows by a Gramian method, from their products ``[K_present, K_present]``."""
        # Solvers and libraries may differ between hosts, so all ranks take rank 0's numbers.
        options = self._options(tasks, losses)
        weights = self._reducer.broadcast(self.aggregator.weights(gram, **options), device) * self._factor()
        self._remember(tasks, weights, options['losses'])
        return weights

    def _options(self, tasks: Sequence[str], losses: Tensor) -> dict[str, Any]:
        """What aggregators may ask for beside the gradients."""
        ids = torch.tensor([self.aggregator.tasks.index(task) for task in tasks])
        return dict(losses=losses[ids], generator=self._generator, task_ids=ids)

    def _factor(self) -> int:
        return max(self.aggregator.rows_used, 1) if self._rescale == 'sum' and self.aggregator.scale == 'mean' else 1

    def _remember(self, tasks: Sequence[str], weights: Tensor | None, losses: Tensor) -> None:
        self.weights = {} if weights is None else dict(zip(tasks, weights.tolist()))
        factors = weights if self._heads == 'weighted' else None
        if self._heads is None:
            factors = self.aggregator.head_weights(weights, losses)
        self.head_factors = {} if factors is None else dict(zip(tasks, factors.tolist()))

    def gather_state(self) -> None:
        """Bring to rank 0 what :meth:`state_dict` takes from all ranks; a collective call after the last step."""
        self._kept.gather()

    def state_dict(self) -> dict[str, Any]:
        """States of the aggregator and its memory, and the last weights; see :meth:`gather_state`."""
        with self._kept.whole():
            aggregator = self.aggregator.state_dict()
        return dict(
            aggregator=aggregator,
            kept=self._kept.state_dict(),
            last_weights=dict(self.weights),
            head_factors=dict(self.head_factors),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.aggregator.load_state_dict(state['aggregator'])
        self._kept.load_state_dict(state.get('kept'))
        self.weights = {task: float(weight) for task, weight in state['last_weights'].items()}
        self.head_factors = {task: float(factor) for task, factor in state['head_factors'].items()}
