"""One gradient per task, as the rows of a matrix."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mtl_plugins.utils.kept_memory import KeptMemory

from .gradients import Found, SharedLayout, accumulate, add_found, caught

if TYPE_CHECKING:
    from .row_shards import Shard


class TaskRows:
    """The gradients of tasks with respect to the same tensors, each a row.

    Args:
        tasks: Names of the K rows.
        matrix: ``[K, D]``.
        layout: What the columns belong to.
        shard: Which of the columns this rank has; None: all.

    Attributes:
        found: Gradients that arrived at parameters which the task was not known to reach.
        flat: For rows made by :meth:`zeros`: their numbers and one more, in one piece of memory.
    """

    def __init__(self, tasks: Iterable[str], matrix: Tensor, layout: SharedLayout, shard: Shard | None = None) -> None:
        self.tasks = list(tasks)
        self.matrix = matrix
        self.layout = layout
        self.shard = shard
        self.found: Found = {}

    @property
    def held(self) -> int:
        """Bytes that this rank holds for them."""
        return self.matrix.numel() * self.matrix.element_size()

    @classmethod
    def zeros(
        cls,
        tasks: Collection[str],
        layout: SharedLayout,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        memory: KeptMemory | None = None,
    ) -> TaskRows:
        """Rows to add to, with ``flat`` for one sum over ranks; where there is ``memory``, in that."""
        flat = (memory or KeptMemory()).zeros(len(tasks) * layout.width + 1, dtype, device)
        rows = cls(tasks, flat[:-1].view(len(tasks), layout.width), layout)
        rows.flat = flat
        return rows

    def select(self, tasks: Sequence[str]) -> TaskRows:
        """The rows of these tasks, in this order."""
        if list(tasks) == self.tasks:
            return self
        return TaskRows(tasks, self.matrix[[self.tasks.index(task) for task in tasks]], self.layout, self.shard)

    def add(
        self,
        losses: dict[str, Tensor],
        own: Callable[[str], Sequence[nn.Parameter]] = lambda task: (),
        others: Callable[[str], Sequence[nn.Parameter]] = lambda task: (),
        keep: bool = False,
        direct: bool = False,
    ) -> None:
        """Differentiate each loss by itself and add the gradients to the rows; on shards a collective call.

        Args:
            losses: Task -> loss with graph, of these tasks only; taken out as they are used. The last head goes first,
                as in a backward of the sum, so that memory peaks no higher than there.
            own: Parameters of a task whose gradients are added to their ``.grad``.
            others: Parameters that a task was not known to use; their gradients go to ``found`` if some arrive.
            keep: Whether the graph outlives this call; else the last loss frees what the losses share.
            direct: Whether ``backward`` writes to the rows where it can. That saves memory, and runs the hooks that
                wait for a parameter's gradient.
        """
        for task, row in self._places():
            if task in losses:
                retain_graph = keep or len(losses) > 1
                self._add(row, task, losses.pop(task), own(task), others(task), retain_graph, direct)

    def _places(self) -> Iterator[tuple[str, Tensor]]:
        """The tasks, the last one first, each with what its gradient is added to before the next is asked for."""
        yield from zip(reversed(self.tasks), reversed(self.matrix.unbind()))

    def _add(
        self,
        row: Tensor,
        task: str,
        loss: Tensor,
        own: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        retain_graph: bool,
        direct: bool,
    ) -> None:
        found = self.found.setdefault(task, {})
        wanted = [*self.layout.parameters, *own, *others]
        if not wanted:
            return
        if direct and self.layout.matches(row):
            with self.layout.collect(row), caught(others, found):
                loss.backward(inputs=wanted, retain_graph=retain_graph)
            return
        gradients = torch.autograd.grad(loss, wanted, retain_graph=retain_graph, allow_unused=True)
        first, last = len(self.layout.parameters), len(wanted) - len(others)
        self.layout.add_to_row(row, gradients[:first])
        accumulate(own, gradients[first:last])
        add_found(found, others, gradients[last:])
