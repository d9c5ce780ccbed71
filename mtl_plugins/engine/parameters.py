"""Which parameters a task's loss depends on: shared, a task's own, or unused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl_plugins.errors import UserRuntimeError


class ReentrantCheckpointError(UserRuntimeError):
    """Raised when a loss went through re-entrant activation checkpointing, which hides parameters from the graph."""


def parameters_behind(loss: Tensor, stop: Collection[Tensor] = ()) -> set[int]:
    """``id`` of every leaf tensor that ``loss`` was computed from, by a walk over the autograd graph.

    Args:
        loss: Where the walk starts.
        stop: Tensors that it does not go behind.

    Raises:
        ReentrantCheckpointError: At a re-entrant checkpoint node, behind which the leaves cannot be seen.
    """
    found: set[int] = set()
    seen: set[torch.autograd.graph.Node] = {tensor.grad_fn for tensor in stop}
    stack = [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == 'CheckpointFunctionBackward':
            raise ReentrantCheckpointError(
                'the model uses re-entrant activation checkpointing, which hides parameters from the autograd graph '
                'and gives silently wrong per-task gradients. Use use_reentrant=False (as TimmViT does), or switch it '
                "off: MMSegmentation's backbones offer only with_cp=False"
            )
        variable = getattr(node, 'variable', None)
        if variable is not None:
            found.add(id(variable))
        stack.extend(parent for parent, _ in node.next_functions)
    return found


class ParameterTable:
    """Collects, task by task, the parameters each loss was seen to depend on.

    Each task is looked at once, at its first loss with a graph; the walk costs about as much as building the graph.
    "Shared" is what two or more tasks use, whatever its name: with an auxiliary head on stage 3, stage 4 of a backbone
    belongs to the main task alone.

    Args:
        model: The bare model (not its DDP wrapper).
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
        self._users: dict[str, set[str]] = {}
        self._seen: set[str] = set()

    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Walk the losses of tasks that have not been seen with a graph yet."""
        for task, loss in losses.items():
            if task in self._seen or loss.grad_fn is None:
                continue
            self._seen.add(task)
            for key in parameters_behind(loss):
                if key in self._names:
                    self._users.setdefault(self._names[key], set()).add(task)

    def export(self) -> dict[str, list[str]]:
        """What was seen so far, in alphabetical order, for the other ranks."""
        users = sorted(self._users.items())
        return {task: [name for name, tasks in users if task in tasks] for task in sorted(self._seen)}

    def merge(self, exports: Iterable[Mapping[str, Sequence[str]]]) -> None:
        """Take over what other ranks saw."""
        for export in exports:
            for task, names in export.items():
                self._seen.add(task)
                for name in names:
                    self._users.setdefault(name, set()).add(task)

    @property
    def seen(self) -> frozenset[str]:
        """Tasks whose graph has been walked."""
        return frozenset(self._seen)

    def users(self, name: str) -> frozenset[str]:
        """Tasks that use the parameter ``name``."""
        return frozenset(self._users.get(name, ()))

    def shared(self) -> list[str]:
        """Names of parameters used by two or more tasks (with one task: all it uses)."""
        least = 1 if len(self._seen) == 1 else 2
        return [name for name in self._names.values() if len(self._users.get(name, ())) >= least]

    def own(self, task: str) -> list[str]:
        """Names of parameters that only ``task`` uses."""
        if len(self._seen) == 1:
            return []
        return [name for name in self._names.values() if self._users.get(name) == {task}]

    def unused(self) -> list[str]:
        """Names of trainable parameters that no observed loss depends on."""
        return [name for name in self._names.values() if name not in self._users]

    def exclusive_to(self, tasks: Iterable[str]) -> set[str]:
        """Names of parameters whose users all lie in ``tasks``."""
        wanted = set(tasks)
        return {name for name, users in self._users.items() if users <= wanted}
