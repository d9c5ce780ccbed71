"""Gradients of the tasks at the shared representation: K cheap passes through the heads instead of K through all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtl_plugins.errors import UserError, UserRuntimeError

from .parameters import parameters_behind
from .task_gradients import accumulate


class FeatureWatch:
    """Remembers the tensors that a module puts out while it is watched.

    Args:
        name: Name of the module, such as ``'backbone'``.

    Raises:
        ValueError: When it is to be watched and the model has no such module.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: list[Tensor] = []
        self._reached: dict[str, set[int]] = {}

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Inside the context the tensors of the latest forward with graph are kept."""
        modules = dict(model.named_modules())
        if self.name not in modules:
            tops = ', '.join(name for name, _ in model.named_children())
            raise UserError(f"features='{self.name}': the model has no such module; its parts are {tops}")

        def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
            # A later map is often computed from an earlier one. What the module puts out are therefore aliases, behind
            # which the module goes on with the maps themselves: the gradient at an alias comes from the heads alone.
            output = _alias(output)
            self.tensors = [tensor for tensor in _tensors(output) if tensor.requires_grad]
            return output

        handle = modules[self.name].register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def is_only_way(self, losses: Mapping[str, Tensor], parameters: Iterable[nn.Parameter]) -> bool:
        """Whether ``parameters`` act on the losses through the features alone; each task is looked at once."""
        for task in losses.keys() - self._reached.keys():
            self._reached[task] = parameters_behind(losses[task], self.tensors)
        return all(self._reached[task].isdisjoint(map(id, parameters)) for task in losses)

    def rows(
        self, members: Sequence[str], losses: dict[str, Tensor], own: Callable[[str], Sequence[nn.Parameter]]
    ) -> Tensor:
        """The tasks' gradients at the features; the graph stays.

        Args:
            members: Tasks in the order of rows; zeros for those without a loss here.
            losses: Losses with graph of the latest forward; taken out as they are used.
            own: Parameters of a task whose gradients the same pass adds to their ``.grad``.

        Returns:
            ``[K, F]`` with all features side by side.
        """
        if not self.tensors:
            raise UserRuntimeError(f"features='{self.name}': the module put out nothing that the losses depend on")
        rows = torch.zeros(len(members), sum(self._sizes()), device=self.tensors[0].device)
        # The last head goes first, as in a backward of the sum, so that memory peaks no higher than there.
        for row, task in zip(reversed(list(rows)), reversed(members)):
            if task not in losses:
                continue
            wanted = [*self.tensors, *own(task)]
            gradients = torch.autograd.grad(losses.pop(task), wanted, retain_graph=True, allow_unused=True)
            for part, gradient in zip(row.split(self._sizes()), gradients):
                if gradient is not None:
                    part.copy_(gradient.reshape(-1))
            accumulate(own(task), gradients[len(self.tensors) :])
        return rows

    def backward(self, row: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Go on from the gradient ``row`` ``[F]`` at the features to the parameters behind them; frees the graph."""
        parts = [part.view_as(t).to(t.dtype) for part, t in zip(row.split(self._sizes()), self.tensors)]
        torch.autograd.backward(self.tensors, parts, inputs=list(parameters))
        self.tensors = []

    def _sizes(self) -> list[int]:
        return [tensor.numel() for tensor in self.tensors]


def _alias(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.view_as(output) if output.requires_grad else output
    if isinstance(output, Mapping):
        return type(output)({key: _alias(value) for key, value in output.items()})
    if isinstance(output, tuple) and hasattr(output, '_fields'):
        return type(output)(*map(_alias, output))
    return type(output)(map(_alias, output)) if isinstance(output, (list, tuple)) else output


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _tensors(value)
