"""One gradient per task: rows over the shared parameters, and each task's own part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from .parameters import ParameterTable
from .reduction import Reducer


class SharedLayout:
    """Where each shared parameter lies in a row.

    Args:
        parameters: The shared parameters, in order.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.sizes = [p.numel() for p in self.parameters]

    @property
    def width(self) -> int:
        """Length D of a row."""
        return sum(self.sizes)

    def matches(self, rows: Tensor) -> bool:
        """Whether rows and shared parameters have one dtype and device, as :meth:`collect` needs."""
        return all(p.dtype == rows.dtype and p.device == rows.device for p in self.parameters)

    @contextmanager
    def collect(self, row: Tensor) -> Iterator[None]:
        """Inside the context ``backward`` adds the shared parameters' gradients straight to ``row``.

        Gradients are never held a second time outside the row, and each is added while it is still in the cache. What
        lay in ``.grad`` before lies there again afterwards.
        """
        before = [parameter.grad for parameter in self.parameters]
        for parameter, part in zip(self.parameters, row.split(self.sizes)):
            parameter.grad = part.view_as(parameter)
        try:
            yield
        finally:
            for parameter, gradient in zip(self.parameters, before):
                parameter.grad = gradient

    def add_to_row(self, row: Tensor, gradients: Sequence[Tensor | None]) -> None:
        """Add one gradient per parameter (None stands for zero) to ``row``, in place."""
        for part, gradient in zip(row.split(self.sizes), gradients):
            if gradient is not None:
                part += gradient.reshape(-1).to(row.dtype)

    def write(self, row: Tensor) -> None:
        """Make the parts of a row the parameters' ``.grad``, without a copy where the dtype allows it."""
        for parameter, part in zip(self.parameters, row.split(self.sizes)):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)


class ParameterSplit:
    """Which parameters are shared and which belong to one task, the same on all ranks.

    A task's graph is looked at when it is present for the first time. A rank that lacks its labels learns from the
    others.

    Args:
        model: The bare model; for closures without one, a module that holds the optimizer's parameters.
        trainable: The optimizer's parameters; others are neither shared nor anybody's.
        reducer: Exchanges what ranks saw.
        table: What is known already; None starts anew.
        known: What an earlier :meth:`export` said.
    """

    def __init__(
        self,
        model: nn.Module,
        trainable: Sequence[nn.Parameter],
        reducer: Reducer,
        table: ParameterTable | None = None,
        known: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        stepped = {id(p) for p in trainable}
        self._table = ParameterTable(model) if table is None else table
        self._parameters = {name: p for name, p in model.named_parameters() if id(p) in stepped}
        self._reducer = reducer
        self._mapped: set[str] = set()
        self.shared = SharedLayout([])
        self._own: dict[str, list[nn.Parameter]] = {}
        if known:
            self._table.merge([known])
            self._mapped.update(known)
            self._map()

    def export(self) -> dict[str, list[str]]:
        """Which parameters each task was seen to use: plain state."""
        return self._table.export()

    def update(self, present: Sequence[str], losses: Sequence[Mapping[str, Tensor]]) -> bool:
        """Learn about tasks that are present for the first time.

        Args:
            present: Usable tasks, the same on all ranks.
            losses: This rank's losses with graph, one mapping per micro-batch.

        Returns:
            Whether rows have another layout than before.
        """
        if self._mapped.issuperset(present):
            return False
        for each in losses:
            self._table.observe({task: each[task] for task in present if task in each})
        self._table.merge(self._reducer.gather_objects(self._table.export()))
        known = bool(self._mapped)
        self._mapped.update(present)
        before = [id(parameter) for parameter in self.shared.parameters]
        self._map()
        return known and before != [id(parameter) for parameter in self.shared.parameters]

    def _map(self) -> None:
        self.shared = SharedLayout(self._select(self._table.shared()))
        self._own = {task: self._select(self._table.own(task)) for task in self._mapped}

    def _select(self, names: Sequence[str]) -> list[nn.Parameter]:
        return [self._parameters[name] for name in names if name in self._parameters]

    def own(self, task: str) -> list[nn.Parameter]:
        """Parameters that only ``task`` uses."""
        return self._own.get(task, [])


def accumulate(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients to ``.grad``; None adds nothing."""
    for parameter, gradient in zip(parameters, gradients):
        if gradient is not None:
            parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)
