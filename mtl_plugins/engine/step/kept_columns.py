"""What aggregators keep of earlier gradients, by parameter: it outlives freezing and a change of the columns."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from mtl_plugins.methods.aggregation.buffers import TaskBuffer

from ..optimizers.spread_state import not_gathered
from .row_shards import Shard


class KeptColumns:
    """Moves the columns of a buffer of shape (K, D) with the parameters that they belong to.

    Columns of parameters that take no part now, because they are frozen, wait until they do again. Where rows are
    spread over ranks, so is the buffer; what is saved is whole.

    Args:
        buffer: The aggregator's buffer; None if it keeps nothing.
    """

    def __init__(self, buffer: TaskBuffer | None) -> None:
        self._buffer = buffer
        #: Name and width of the buffer's column blocks; None if a checkpoint does not tell.
        self._columns: dict[str, int] | None = {}
        self._waiting: dict[str, Tensor] = {}
        self._latest: Mapping[str, int] | None = None
        #: What the buffer holds of its columns; None: all.
        self._shard: Shard | None = None
        self._gathered: Tensor | None = None

    def fit(self, columns: Mapping[str, int], shard: Shard | None = None) -> None:
        """Bring the buffer to these columns: those that it knows with what they hold, others with zeros.

        Args:
            columns: Name and width of each, in order.
            shard: Which of them this rank holds; None: all. The same kind on all ranks.
        """
        self._gathered = None
        as_before = (shard is None) == (self._shard is None)
        if self._buffer is None or (columns is self._latest and as_before):
            return
        self._latest = columns
        if self._columns is not None and list(columns.items()) == list(self._columns.items()) and as_before:
            return
        if self._shard is not None and self._buffer.data is not None:
            self._buffer.data = torch.stack([self._shard.gather(row) for row in self._buffer.data])
        self._fit_whole(columns)
        if shard is not None and self._buffer.data is not None:
            self._buffer.data = shard.cut(self._buffer.data)
        self._shard = shard

    def _fit_whole(self, columns: Mapping[str, int]) -> None:
        data, self._columns, before = self._buffer.data, dict(columns), self._columns
        if data is None and not self._waiting:
            return
        if data is not None and before is None:
            if data.shape[1] == sum(columns.values()):
                return
            print_log(
                f'{self._buffer.owner}: the checkpoint does not say which parameters its {data.shape[1]} numbers per '
                f'task belong to, and there are {sum(columns.values())} shared ones now: they start anew',
                logger='current',
                level=30,
            )
            self._buffer.data = None
            return
        if data is not None:
            self._waiting.update(zip(before, data.split(list(before.values()), dim=1)))
        like = next(iter(self._waiting.values())) if data is None else data
        parts = [self._waiting.pop(name, None) for name in columns]
        empty = like.new_zeros(len(like), 0)
        self._buffer.data = torch.cat(
            [
                empty,
                *(
                    part if part is not None and part.shape[1] == width else like.new_zeros(len(like), width)
                    for part, width in zip(parts, columns.values())
                ),
            ],
            dim=1,
        )
        # Copies: a view would keep all of the former buffer.
        self._waiting = {name: part.clone() for name, part in self._waiting.items()}

    def gather(self) -> None:
        """Bring the whole buffer to rank 0, where :meth:`whole` asks for it; a collective call."""
        if self._shard is not None and self._buffer.data is not None:
            # Row by row: on the device of the ranks there is room for one.
            rows = [self._shard.gather_on_first(row) for row in self._buffer.data]
            self._gathered = torch.stack(rows) if rows[0] is not None else None

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside the context the buffer holds all columns.

        Raises:
            UserRuntimeError: If it is spread over ranks and was not gathered since the last step.
        """
        if self._shard is None or self._buffer.data is None:
            yield
            return
        if self._gathered is None:
            raise not_gathered(self._buffer.owner)
        part, self._buffer.data = self._buffer.data, self._gathered
        try:
            yield
        finally:
            self._buffer.data = part

    def state_dict(self) -> dict[str, Any]:
        """The buffer's columns, and those that wait: plain state."""
        return dict(columns=dict(self._columns or {}), waiting=dict(self._waiting))

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Restore :meth:`state_dict`; None for a checkpoint that has none of it."""
        self._columns = None if state is None else {name: int(width) for name, width in state['columns'].items()}
        self._waiting = {} if state is None else {name: part.clone() for name, part in state['waiting'].items()}
        self._latest = self._shard = self._gathered = None
