"""What all gradient aggregators share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.naming import as_built, check_tasks

from .buffers import TaskBuffer
from .parts import Part
from .rows import BY_LOSSES, FACTORS, LENGTHS, NORMALISERS, column_blocks, divisors, narrowed, within


class Aggregator(ABC):
    """Turns the K gradients of the tasks into one update.

    ``aggregator(G, losses, generator, task_ids)`` takes the gradients as the rows of ``G`` and returns the vector that
    takes the place of the gradient, so that an optimizer subtracts it. Rows that are exactly zero are left out: the
    result is that of the method on the other rows, and the zero vector if there are none. Rows may have any scale that
    float32 has; entries of the update beyond its range end at its limits.

    Args:
        tasks: Task names, or their number; None if :meth:`bind` tells them later. Without them the first call with K
            rows stands for K tasks.

    Attributes:
        facts: What is known about the method; None for what is no method by itself.
        scale: What the update is if all rows equal g: ``'sum'``, K g; ``'mean'``, g; ``'raw'``, neither.
        heads: Default for parameters that belong to one task: ``'sum'``, its own gradient as it is; ``'weighted'``,
            multiplied by the weight of the task.
        needs_losses: Whether the method wants the values of the losses.
        needs_generator: Whether the method draws random numbers.
        stateful: Whether a call depends on the calls before it.
        per_task: Whether rows have to be told apart, so that ``task_ids`` matter; every stateful method does.
        gramian_only: Whether the weights follow from the K x K products of the rows.
        gives_weights: Whether the update is a weighted sum of the rows; the weights are then in ``last_weights``.
        features_level: Whether the paper defines the method on gradients of the shared features as well.
        equivariant: Whether the update does not depend on the order of the rows.
        non_conflicting: Whether the paper promises an update u with u . g_k >= 0 for every row.
        shardable: Whether it also works on a part of the columns, by what ``part`` says; Gramian methods need not know.
        keeps_gradients: Whether it has a memory of earlier gradients, the ``buffer``.
        part: Which columns ``G`` and the state hold: all, unless somebody says otherwise.
    """

    facts: ClassVar[MethodFacts | None] = None
    STATE: ClassVar[Mapping[str, str]] = {}
    """What a call leaves to the next: name in the state -> attribute.

    It holds an array or list with a row per task, a count, the buffer, or another aggregator.
    """
    keeps_gradients: ClassVar[bool] = False
    scale: str = 'raw'
    heads: str = 'sum'
    stateful: bool = False
    gramian_only: ClassVar[bool] = False
    gives_weights: ClassVar[bool] = False
    features_level: bool = False
    shardable: ClassVar[bool] = False
    part: Part = Part()
    non_conflicting: bool = False
    needs_generator: bool = False
    per_task: bool = False
    needs_losses: bool = False
    equivariant: bool = True

    def __init__(self, tasks: Sequence[str] | int | None = None) -> None:
        #: Names of the tasks.
        self.tasks: tuple[str, ...] | None = None
        #: What rows are divided by first, see :meth:`normalise_rows`.
        self.normalised_by = 'none'
        #: How often a problem had no solution and the documented fall-back was taken.
        self.fallbacks = 0
        #: Number of rows that the last call made use of, which is what ``scale`` refers to.
        self.rows_used = 0
        #: Its memory of earlier gradients, a row per task, whose columns move with those of ``G``.
        self.buffer = TaskBuffer(type(self).__name__) if self.keeps_gradients else None
        #: Weights of the last call, float64 of shape (K,) on the CPU; None if the update is no weighted sum.
        self.last_weights: Tensor | None = None
        if tasks is None:
            self._start(0)
        else:
            self.bind(tasks)

    def normalise_rows(self, by: str) -> Self:
        """Divide every row by a number before the method sees it; the update is made of the rows so divided.

        Its length then follows from theirs: with ``'l2'`` it no longer depends on the lengths of the gradients, so that
        the learning rate has to. If a loss that is to divide is not positive, the rows of that call stay as they are,
        which is counted in ``fallbacks``. Rows are copied, unless products of rows are all that the method needs.

        Args:
            by: ``'none'``, 1; ``'l2'``, the length of the row; ``'loss'``, the loss of its task; ``'loss+'``, their
                product.

        Returns:
            The aggregator itself.

        Raises:
            ValueError: If ``by`` is another.
        """
        if by not in NORMALISERS:
            raise ValueError(
                f'{type(self).__name__}: rows can be normalised by {", ".join(NORMALISERS)}, but got {by!r}'
            )
        self.normalised_by = by
        self.needs_losses = self.needs_losses or by in BY_LOSSES
        return self

    @property
    def _alone(self) -> bool:
        """Whether the run has one task only, so that there is nothing to balance; not that others are merely absent."""
        return self.rows_used == 1 and (self.tasks is None or len(self.tasks) == 1)

    def _divisors(self, norms: np.ndarray, losses: np.ndarray | None) -> np.ndarray | None:
        """What to divide the rows by, given their lengths; None for nothing."""
        if self.normalised_by == 'none' or self._alone:
            return None
        found = divisors(self.normalised_by, norms, losses)
        self.fallbacks += found is None
        return found

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order that ``task_ids`` counts (or their number); a state restarts."""
        self.tasks = check_tasks(type(self).__name__, tasks)
        if self.buffer is not None:
            self.buffer.data = None
        self._start(len(self.tasks))

    def _start(self, num_tasks: int) -> None:  # noqa: B027
        """Set the attributes of ``STATE`` but the buffer to what they are before the first call."""

    @torch.no_grad()
    def __call__(
        self,
        G: Tensor,
        losses: Tensor | None = None,
        generator: torch.Generator | None = None,
        task_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the update.

        Args:
            G: Gradients of the present tasks, of shape (K, D).
            losses: Their K losses, for the methods that need them.
            generator: Source of random numbers, for the methods that draw some.
            task_ids: Which task each row belongs to, for the methods with a state per task; None for 0 ... K-1.

        Returns:
            Tensor of shape (D,), dtype and device of ``G``, without graph.

        Raises:
            TypeError: If ``G`` is no float tensor.
            ValueError: If a shape is wrong, a row is not finite, or the losses or the generator are missing.
        """
        name = type(self).__name__
        if not isinstance(G, Tensor) or not G.is_floating_point():
            raise TypeError(f'{name}: G must be a float tensor, but got {getattr(G, "dtype", type(G).__name__)}')
        if G.dim() != 2 or not G.shape[0]:
            raise ValueError(f'{name}: G must be of shape (K, D) with K >= 1, but got {tuple(G.shape)}')
        losses, ids = self._check(G.shape[0], losses, generator, task_ids)
        return self._aggregate(G.detach(), losses, generator, ids)

    @abstractmethod
    def _aggregate(self, G: Tensor, losses: Tensor | None, generator: torch.Generator | None, ids: Tensor) -> Tensor:
        """Return the update for checked input."""

    def head_weights(self, weights: Tensor | None, losses: Tensor | None = None) -> Tensor | None:
        """Return the factors for the gradients of the parameters that belong to one task; None for all ones.

        Args:
            weights: Weights of the K rows, of the last call or a call before it.
            losses: The K losses.
        """
        return weights if self.heads == 'weighted' else None

    def _check(
        self,
        num_rows: int,
        losses: Tensor | None,
        generator: torch.Generator | None,
        task_ids: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        name = type(self).__name__
        if self.needs_generator and generator is None:
            raise ValueError(f'{name} draws random numbers: pass a seeded torch.Generator as generator')
        if self.needs_losses:
            if losses is None:
                raise ValueError(f'{name} needs the values of the losses: pass losses of shape ({num_rows},)')
            losses = losses.detach().to('cpu', torch.float64)
            if losses.shape != (num_rows,) or not torch.isfinite(losses).all():
                raise ValueError(f'{name}: losses must be {num_rows} finite numbers, but got {losses.tolist()}')
        else:
            losses = None
        if not (self.stateful or self.per_task):
            return losses, torch.arange(num_rows)
        if self.tasks is None:
            self.bind(num_rows if task_ids is None else max(num_rows, int(task_ids.max()) + 1))
        known = len(self.tasks)
        if task_ids is None:
            if num_rows != known:
                raise ValueError(f'{name}: there are {known} tasks, but G has {num_rows} rows: pass their task_ids')
            return losses, torch.arange(num_rows)
        ids = torch.as_tensor(task_ids).detach().to('cpu', torch.int64)
        if ids.shape != (num_rows,) or len(set(ids.tolist())) != num_rows or ids.min() < 0 or ids.max() >= known:
            raise ValueError(
                f'{name}: task_ids must be {num_rows} different numbers from 0 to {known - 1}, but got {ids.tolist()}'
            )
        return losses, ids

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the classes that it is made of."""
        return (type(self).__name__,)

    @property
    def note(self) -> str:
        """What a user should know of its settings before training; empty for nothing."""
        return '' if self.normalised_by == 'none' else f'rows normalised by {self.normalised_by!r}'

    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors, numbers and strings only. An aggregator without state returns an empty dict."""
        return {name: _saved(getattr(self, attribute)) for name, attribute in self.STATE.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ValueError: If it has other entries than this class, or is of another number of tasks.
        """
        name = type(self).__name__
        if set(state) != set(self.STATE):
            wanted = f': its state has the entries {", ".join(self.STATE)}' if self.STATE else ' has no state'
            raise ValueError(f'{name}{wanted}, but got the entries {", ".join(map(str, state)) or "none"}')
        held = {entry: getattr(self, attribute) for entry, attribute in self.STATE.items()}
        rows = {len(state[entry]) for entry, value in held.items() if isinstance(value, np.ndarray | list)}
        if self.tasks is None and any(rows):
            self.bind(max(rows))
        elif self.tasks is not None and rows - {len(self.tasks)}:
            raise ValueError(f'{name}: its state is of {max(rows)} tasks, but there are {len(self.tasks)}')
        for entry, attribute in self.STATE.items():
            value = state[entry]
            if isinstance(held[entry], TaskBuffer):
                held[entry].data = value.clone() if value.numel() else None
            elif isinstance(held[entry], Aggregator):
                held[entry].load_state_dict(value)
            elif isinstance(held[entry], np.ndarray):
                setattr(self, attribute, value.to('cpu', torch.float64).numpy().copy())
            else:
                setattr(self, attribute, list(map(int, value)) if isinstance(value, list) else int(value))

    def __repr__(self) -> str:
        return as_built(self, 'tasks')


class RowAggregator(Aggregator):
    """An aggregator that looks at the coordinates of the rows, not only at their products."""

    def _aggregate(self, G: Tensor, losses: Tensor | None, generator: torch.Generator | None, ids: Tensor) -> Tensor:
        squares = torch.zeros(G.shape[0], dtype=torch.float64, device=G.device)
        for block in column_blocks(G):
            squares += G[:, block].to(torch.float64).square().sum(1)
        squares = self.part.sum(squares).cpu()
        refuse_nonfinite(self, squares, ' of G')
        live = squares > 0
        self.rows_used = int(live.sum())
        self.last_weights = torch.zeros(G.shape[0], dtype=torch.float64) if self.gives_weights else None
        if self.rows_used == 0:
            return G.new_zeros(G.shape[1])
        if self.rows_used < G.shape[0]:
            G, ids = G[live.to(G.device)], ids[live]
            losses = None if losses is None else losses[live]
        norms, dtype = squares[live].sqrt(), G.dtype
        G = G if within(LENGTHS, norms) else G.double()
        divisor = self._divisors(norms.numpy(), None if losses is None else losses.numpy())
        if divisor is not None:
            factors = torch.from_numpy(1 / divisor)
            wide = torch.promote_types(G.dtype, torch.float32 if within(FACTORS, factors) else torch.float64)
            G, norms = G.to(wide) * factors.to(G.device, wide)[:, None], norms * factors
        update, weights = self._combine(G, norms, losses, generator, ids)
        if divisor is not None and weights is not None:
            weights = weights * factors
        if weights is not None:
            self.last_weights[live] = weights
        return narrowed(update, dtype)

    @abstractmethod
    def _combine(
        self,
        G: Tensor,
        norms: Tensor,
        losses: Tensor | None,
        generator: torch.Generator | None,
        ids: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the update and, if it is a weighted sum of the rows, the weights.

        Args:
            G: Rows, none of which is zero; in float64 where one is so long or short that float32 is not enough.
            norms: Their Euclidean norms, float64 on the CPU.
            losses: Their losses, float64 on the CPU.
            generator: Source of random numbers.
            ids: Task of each row.
        """


def _saved(value: Any) -> Any:
    if isinstance(value, TaskBuffer):
        return torch.zeros(0, 0) if value.data is None else value.data.clone()
    if isinstance(value, Aggregator):
        return value.state_dict()
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else copy(value)


def refuse_nonfinite(owner: Aggregator, squares: Tensor, of: str = '') -> None:
    """Raise a ValueError that names the rows of which the square of the length is not finite in double precision."""
    broken = torch.nonzero(~torch.isfinite(squares)).flatten().tolist()
    if broken:
        raise ValueError(
            f'{type(owner).__name__}: rows {broken}{of} are not finite, or so long (1e154) that their squares are not: '
            'leave them out, or scale the losses down'
        )
