"""One gradient per task: rows over the shared parameters, and each task's own part."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from mtl_plugins.errors import UserError

from .gradient_sums import laid_out_as
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

    def parts(self, rows: Tensor) -> dict[nn.Parameter, Tensor]:
        """Views ``[..., size]`` of rows ``[..., D]``, one per parameter."""
        return dict(zip(self.parameters, rows.split(self.sizes, dim=-1)))

    @contextmanager
    def collect(self, row: Tensor) -> Iterator[None]:
        """Inside the context ``backward`` adds the shared parameters' gradients straight to ``row``.

        Gradients are never held a second time outside the row, and each is added while it is still in the cache. What
        lay in ``.grad`` before lies there again afterwards.
        """
        before = [parameter.grad for parameter in self.parameters]
        # A row is in the order of contiguous tensors; what lies in memory otherwise is added to it afterwards.
        direct = [parameter.is_contiguous() for parameter in self.parameters]
        for (parameter, part), is_direct in zip(self.parts(row).items(), direct):
            parameter.grad = part.view_as(parameter) if is_direct else None
        try:
            yield
        finally:
            apart = [None if is_direct else p.grad for p, is_direct in zip(self.parameters, direct)]
            for parameter, gradient in zip(self.parameters, before):
                parameter.grad = gradient
        if not all(direct):
            self.add_to_row(row, apart)

    def add_to_row(self, row: Tensor, gradients: Sequence[Tensor | None]) -> None:
        """Add one gradient per parameter (None stands for zero) to ``row``, in place."""
        for part, gradient in zip(self.parts(row).values(), gradients):
            if gradient is not None:
                part += gradient.reshape(-1).to(row.dtype)

    def write(self, row: Tensor) -> None:
        """Make the parts of a row the parameters' ``.grad``, without a copy where the dtype allows it."""
        for parameter, part in self.parts(row).items():
            parameter.grad = laid_out_as(parameter, part)


class ParameterSplit:
    """Which of the parameters that are trainable now are shared, and which belong to one task; the same on all ranks.

    A task's graph is walked when it is present for the first time. After that nothing is looked for while nothing
    changes: :meth:`follow` compares the list of trainable parameters, and what differentiates one task also asks for
    the gradients of :meth:`others`, which is free as long as none arrives. What does arrive goes to :meth:`learn`.

    Args:
        reducer: Exchanges what ranks saw.
    """

    def __init__(self, reducer: Reducer) -> None:
        self._reducer = reducer
        self.restore({})

    def restore(self, known: Mapping[str, Sequence[str]]) -> None:
        """Begin anew, with what an earlier :meth:`export` said."""
        self._known = {task: list(names) for task, names in known.items()}
        self._table: ParameterTable | None = None
        self._mapped = set(known)
        self._trainable: dict[int, nn.Parameter] = {}
        self._own: dict[str, list[nn.Parameter]] = {}
        self._others: dict[str, list[nn.Parameter]] = {}
        self.shared = SharedLayout([])
        #: Shared parameters that were one task's until another was found to use them.
        self.former_owners: dict[nn.Parameter, str] = {}
        #: Name and size of each column block, in order.
        self.columns: dict[str, int] = {}

    def export(self) -> dict[str, list[str]]:
        """Which parameters each task was seen to use: plain state."""
        return self._known if self._table is None else self._table.export()

    def follow(self, table: ParameterTable, trainable: Sequence[nn.Parameter]) -> None:
        """Notice what was frozen or unfrozen, or came to the optimizer, since the last batch.

        Args:
            table: What is known, by name; it outlives freezing. The same in all calls.
            trainable: The parameters that are trainable now.
        """
        if self._table is None:
            self._table = table
            table.merge([self._known])
        if list(map(id, trainable)) == list(self._trainable):
            return
        refuse_complex(trainable)
        self._trainable = {id(parameter): parameter for parameter in trainable}
        self._table.name_all(trainable)
        self._map()

    def update(self, present: Collection[str], losses: Mapping[str, Tensor]) -> None:
        """Learn about tasks that are present for the first time; a collective call then.

        Args:
            present: Usable tasks, the same on all ranks.
            losses: This rank's losses with graph.
        """
        if self._mapped.issuperset(present):
            return
        self._table.observe({task: losses[task] for task in present if task in losses})
        self._mapped.update(present)
        self.learn({})

    def any_found(self, flat: Tensor, found: Found) -> bool:
        """Sum ``flat`` over ranks, whose last number is made to tell whether a rank found something."""
        here = any(found.values())
        flat[-1] = float(here)
        self._reducer.sum(flat)
        return here if self._reducer.world_size == 1 else bool(flat[-1] > 0)

    def learn(self, found: Mapping[str, Iterable[nn.Parameter]]) -> None:
        """Take note of parameters that tasks were found to reach, on this rank or another; a collective call."""
        for task, parameters in found.items():
            self._table.add(task, map(self._table.name_of, parameters))
        self._table.merge(self._reducer.gather_objects(self._table.export()))
        self._mapped |= self._table.seen
        self._map()

    def _map(self) -> None:
        shared = self._select(self._table.shared())
        if list(map(id, shared)) != list(map(id, self.shared.parameters)):
            self.shared = SharedLayout(shared)
            self.columns = {self._table.name_of(p): size for p, size in zip(shared, self.shared.sizes)}
        owners = {p: task for task, parameters in self._own.items() for p in parameters}
        self.former_owners.update({p: owners[p] for p in shared if p in owners})
        self._own = {task: self._select(self._table.own(task)) for task in self._mapped}
        self._others = {}

    def _select(self, names: Sequence[str]) -> list[nn.Parameter]:
        return [self._trainable[key] for key in map(self._table.id_of, names) if key in self._trainable]

    def behind(self, loss: Tensor) -> list[nn.Parameter]:
        """Parameters that ``loss`` was computed from, by a walk over its graph."""
        return self._table.behind(loss)

    def known_shared(self) -> list[str]:
        """Names of all shared parameters, frozen ones included."""
        return self._table.shared()

    def own(self, task: str) -> list[nn.Parameter]:
        """Parameters that only ``task`` uses."""
        return self._own.get(task, [])

    def others(self, task: str) -> list[nn.Parameter]:
        """Trainable parameters that, as far as is known, do not act on ``task``."""
        if task not in self._others:
            known = set(map(id, [*self.shared.parameters, *self.own(task)]))
            self._others[task] = [p for key, p in self._trainable.items() if key not in known]
        return self._others[task]

    def nobodys(self) -> list[nn.Parameter]:
        """Trainable parameters that no task was seen to use."""
        owned = {id(p) for parameters in self._own.values() for p in parameters}
        owned.update(map(id, self.shared.parameters))
        return [p for key, p in self._trainable.items() if key not in owned]


def refuse_complex(parameters: Iterable[nn.Parameter]) -> None:
    """Raise a UserError for complex parameters, whose imaginary parts have no place in a row of gradients."""
    for parameter in parameters:
        if parameter.is_complex():
            raise UserError(
                f'a trainable parameter of shape {tuple(parameter.shape)} is complex ({parameter.dtype}), and methods '
                'that compare the gradients of tasks work on real numbers only: keep it as torch.view_as_real() gives '
                'it, freeze it, or use a method that weights losses'
            )


def accumulate(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients to ``.grad``; None adds nothing."""
    for parameter, gradient in zip(parameters, gradients):
        if gradient is not None:
            if parameter.grad is None:
                parameter.grad = laid_out_as(parameter, gradient.clone())
            else:
                parameter.grad.add_(gradient)


Found = dict[str, dict[nn.Parameter, Tensor]]
"""Task -> gradients that arrived at parameters which the task was not known to reach."""


@contextmanager
def caught(parameters: Sequence[nn.Parameter], found: dict[nn.Parameter, Tensor]) -> Iterator[None]:
    """Gradients that ``backward`` brings to ``parameters`` inside the context go to ``found``; ``.grad`` stays."""
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        add_found(found, parameters, [parameter.grad for parameter in parameters])
        for parameter, gradient in zip(parameters, before):
            parameter.grad = gradient


def add_found(
    found: dict[nn.Parameter, Tensor], parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]
) -> None:
    """Add gradients to those in ``found``; None adds nothing."""
    for parameter, gradient in zip(parameters, gradients):
        if gradient is not None:
            found[parameter] = found[parameter] + gradient if parameter in found else gradient
