"""Gradients of the tasks at the shared representation: K cheap passes through the heads instead of K through all."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtl_plugins.errors import UserError, UserRuntimeError

from .gradients import SharedLayout
from .parameters import nodes_behind, parameters_behind
from .task_rows import TaskRows


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
        self._has_run = False

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Inside the context, which is one forward, the tensors with a graph that the module puts out are kept.

        Raises:
            UserError: If the model has no such module, or if it is called with what came out of it.
        """
        modules = dict(model.named_modules())
        if self.name not in modules:
            tops = ', '.join(name for name, _ in model.named_children())
            raise UserError(f"features='{self.name}': the model has no such module; its parts are {tops}")

        def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
            # A later map is often computed from an earlier one. What the module puts out are therefore aliases, behind
            # which the module goes on with the maps themselves: the gradient at an alias comes from the heads alone.
            before = {tensor.grad_fn for tensor in self.tensors if not tensor.is_leaf}
            if before and not before.isdisjoint(nodes_behind(_tensors(output))):
                raise UserError(
                    f"features='{self.name}': the module is called with what came out of it, so that no place has the "
                    "heads' gradients alone; name a module that contains the repetition, or use level='parameters'"
                )
            is_trained = any(tensor.requires_grad for tensor in _tensors(output))
            # A frozen module has features all the same, whose gradients tell the tasks apart.
            output = _alias(output, as_leaves=not is_trained and torch.is_grad_enabled())
            self.tensors += [tensor for tensor in _tensors(output) if tensor.requires_grad]
            self._has_run = True
            return output

        self._has_run, self.tensors = False, []
        handle = modules[self.name].register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def is_only_way(self, losses: Mapping[str, Tensor], parameters: Iterable[nn.Parameter]) -> bool:
        """Whether ``parameters`` act on the losses through the features alone; this walks the graph of the heads."""
        given = set(map(id, parameters))
        return all(given.isdisjoint(parameters_behind(loss, self.tensors)) for loss in losses.values())

    def rows(
        self,
        members: Sequence[str],
        losses: dict[str, Tensor],
        own: Callable[[str], Sequence[nn.Parameter]],
        others: Callable[[str], Sequence[nn.Parameter]],
    ) -> TaskRows:
        """The tasks' gradients at the features; the graph stays.

        Args:
            members: Tasks in the order of rows; zeros for those without a loss here.
            losses: Losses with graph of the latest forward; taken out as they are used.
            own: Parameters of a task whose gradients the same pass adds to their ``.grad``.
            others: Parameters that a task was not known to use.

        Returns:
            ``[K, F]`` with all features side by side.
        """
        if not self._has_run:
            raise UserRuntimeError(f"features='{self.name}': the module put out nothing that the losses depend on")
        rows = TaskRows.zeros(members, SharedLayout(self.tensors), next(iter(losses.values())).device)
        rows.add(losses, own, others, keep=True)
        return rows

    def backward(self, row: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Go on from the gradient ``row`` ``[F]`` at the features to the parameters behind them; frees the graph."""
        parts = [part.view_as(t).to(t.dtype) for t, part in SharedLayout(self.tensors).parts(row).items()]
        torch.autograd.backward(self.tensors, parts, inputs=list(parameters))


def _alias(output: Any, as_leaves: bool) -> Any:
    if isinstance(output, Tensor):
        if as_leaves and output.is_floating_point():
            return output.detach().requires_grad_()
        return output.view_as(output) if output.requires_grad else output
    if isinstance(output, Mapping):
        return type(output)({key: _alias(value, as_leaves) for key, value in output.items()})
    if not isinstance(output, (list, tuple)):
        return output
    aliases = [_alias(value, as_leaves) for value in output]
    return type(output)(*aliases) if hasattr(output, '_fields') else type(output)(aliases)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _tensors(value)
