"""Rows whose columns are spread over ranks: each is exchanged while the next one is differentiated."""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from .gradients import SharedLayout
from .reduction import Reducer
from .task_rows import TaskRows


class Shard:
    """This rank's stretch of the columns; all are equally long, but for the last ones.

    Args:
        width: Number D of all columns.
        reducer: Knows the ranks.
    """

    def __init__(self, width: int, reducer: Reducer) -> None:
        self.width = width
        self._reducer = reducer
        #: Columns per rank, with some beyond the last for the last ranks.
        self.size = -(-width // reducer.world_size)
        self.start = min(reducer.rank * self.size, width)
        self.stop = min(self.start + self.size, width)

    def gather(self, part: Tensor) -> Tensor:
        """The vector ``[D]`` of which every rank has its part."""
        padded = part.new_zeros(self.size)
        padded[: len(part)] = part
        return self._reducer.gather(padded)[: self.width]

    def gather_on_first(self, part: Tensor) -> Tensor | None:
        """The vector on the CPU of rank 0; None on the others, which take part."""
        whole = self.gather(part)
        return whole.cpu() if self._reducer.rank == 0 else None

    def cut(self, matrix: Tensor) -> Tensor:
        """This rank's columns of ``[K, D]``, as a copy."""
        return matrix[:, self.start : self.stop].clone()

    def sum(self, numbers: Tensor, device: torch.device) -> Tensor:
        """Sum numbers that each rank has from its columns; they may lie elsewhere than on the device of the ranks."""
        return self._reducer.sum(numbers.to(device, copy=True)).to(numbers.device)


class ShardedRows(TaskRows):
    """Rows of which this rank holds its shard, summed over ranks.

    A row is differentiated into one of two buffers as long as all columns, from where its sum over ranks goes to the
    shards while the next row is differentiated into the other.

    Args:
        tasks: Names of the K rows.
        layout: What the columns belong to.
        device: Of the rows.
        dtype: Of the rows.
        reducer: Exchanges with the other ranks, who all make the same calls.
    """

    def __init__(
        self, tasks: Collection[str], layout: SharedLayout, device: torch.device, dtype: torch.dtype, reducer: Reducer
    ) -> None:
        shard = Shard(layout.width, reducer)
        self._padded = torch.zeros(len(tasks), shard.size, dtype=dtype, device=device)
        super().__init__(tasks, self._padded[:, : shard.stop - shard.start], layout, shard)
        self.flat = torch.zeros(1, device=device)
        self._reducer = reducer
        self._free: list[Tensor] = []
        self._sent: list[tuple[str, Tensor, Tensor, Any]] = []

    @property
    def held(self) -> int:
        """Bytes that this rank holds for them: its shard, and the two buffers."""
        buffers = 2 * self.shard.size * self._reducer.world_size
        return (self._padded.numel() + buffers) * self._padded.element_size()

    def _places(self) -> Iterator[tuple[str, Tensor]]:
        """As the base; what was added to a buffer is sent. So ranks without a task's loss send zeros."""
        for task in reversed(self.tasks):
            buffer = self._buffer()
            yield task, buffer[: self.layout.width]
            part = torch.empty_like(self._padded[0])
            self._sent.append((task, buffer, part, self._reducer.scatter_sum(buffer, part)))
        while self._sent:
            self._receive()
        self._free.clear()

    def _buffer(self) -> Tensor:
        if len(self._sent) == 2:
            self._receive()
        if self._free:
            return self._free.pop().zero_()
        return self._padded.new_zeros(self.shard.size * self._reducer.world_size)

    def _receive(self) -> None:
        task, buffer, part, work = self._sent.pop(0)
        work.wait()
        self._padded[self.tasks.index(task)] += part
        self._free.append(buffer)

    def whole(self) -> TaskRows:
        """The rows with all columns, on every rank."""
        matrix = torch.stack([self.shard.gather(row) for row in self.matrix])
        rows = TaskRows(self.tasks, matrix, self.layout)
        rows.found = self.found
        return rows
