"""Gradients of the tasks at the shared representation: K cheap passes through the heads instead of K through all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


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

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Inside the context the tensors of the latest forward with graph are kept."""
        modules = dict(model.named_modules())
        if self.name not in modules:
            tops = ', '.join(name for name, _ in model.named_children())
            raise ValueError(f"features='{self.name}': the model has no such module; its parts are {tops}")

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self.tensors = [tensor for tensor in _tensors(output) if tensor.requires_grad]

        handle = modules[self.name].register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def gramian(self, members: Sequence[str], losses: Mapping[str, Tensor]) -> Tensor:
        """Products of the tasks' gradients at the features, float64 ``[K, K]``; the graph stays.

        Args:
            members: Tasks in the order of rows; zeros for those without a loss here.
            losses: Losses with graph of the latest forward.
        """
        if not self.tensors:
            raise RuntimeError(f"features='{self.name}': the module put out nothing that the losses depend on")
        rows = []
        for task in members:
            if task not in losses:
                rows.append([torch.zeros_like(tensor) for tensor in self.tensors])
                continue
            gradients = torch.autograd.grad(losses[task], self.tensors, retain_graph=True, allow_unused=True)
            rows.append([torch.zeros_like(t) if g is None else g for t, g in zip(self.tensors, gradients)])
        flat = torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows]).double()
        return flat @ flat.T


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _tensors(value)
