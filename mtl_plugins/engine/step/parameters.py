"""Which parameters a task's loss depends on: shared, a task's own, or unused."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from torch import Tensor, nn
from torch.autograd.graph import Node

from mtl_plugins.errors import UserRuntimeError


class ReentrantCheckpointError(UserRuntimeError):
    """Raised when a loss went through re-entrant activation checkpointing, which hides parameters from the graph."""


def nodes_behind(tensors: Iterable[Tensor], stop: Iterable[Tensor] = ()) -> Iterator[Node]:
    """Every node of the graph that ``tensors`` were computed by, once.

    Args:
        tensors: Where the walk starts.
        stop: Tensors that it does not go behind.
    """
    seen = {None, *(tensor.grad_fn for tensor in stop)}
    waiting = [tensor.grad_fn for tensor in tensors]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            yield node
            waiting.extend(parent for parent, _ in node.next_functions)


def parameters_behind(loss: Tensor, stop: Collection[Tensor] = ()) -> set[int]:
    """``id`` of every leaf tensor that ``loss`` was computed from, by a walk over the autograd graph.

    Args:
        loss: Where the walk starts.
        stop: Tensors that it does not go behind.

    Raises:
        ReentrantCheckpointError: At a re-entrant checkpoint node, behind which the leaves cannot be seen.
    """
    found: set[int] = {id(loss)} if loss.is_leaf else set()
    for node in nodes_behind([loss], stop):
        if type(node).__name__ == 'CheckpointFunctionBackward':
            raise ReentrantCheckpointError(
                'the model uses re-entrant activation checkpointing, which hides parameters from the autograd graph '
                'and gives silently wrong per-task gradients. Use use_reentrant=False (as TimmViT does), or switch it '
                "off: MMSegmentation's backbones offer only with_cp=False"
            )
        if hasattr(node, 'variable'):
            found.add(id(node.variable))
    return found


class ParameterTable:
    """Who uses which parameter, as far as was seen: it only ever grows.

    "Shared" is what two or more tasks use, whatever its name: with an auxiliary head on stage 3, stage 4 of a backbone
    belongs to the main task alone. A run with one task has no other to share with; there, all it uses is shared.

    Args:
        model: The bare model (not its DDP wrapper).

    Attributes:
        num_tasks: Number of tasks of the run; None if nobody tells, where those seen so far count.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._parameters: dict[str, nn.Parameter] = {}
        self._names: dict[int, str] = {}
        self._users: dict[str, set[str]] = {}
        self._seen: set[str] = set()
        self.num_tasks: int | None = None
        self.name_all([])

    def name_all(self, parameters: Sequence[nn.Parameter]) -> None:
        """Have names for the model's present parameters, and for others that the optimizer steps beside them."""
        self._parameters = dict(self._model.named_parameters())
        self._names = {id(parameter): name for name, parameter in self._parameters.items()}
        for index, parameter in enumerate(parameters):
            if id(parameter) not in self._names:
                self._names[id(parameter)] = f'(outside the model) {index}'
                self._parameters[f'(outside the model) {index}'] = parameter

    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Walk the losses of tasks that have not been seen with a graph yet.

        The walk costs about as much as building the graph. What a task reaches in later batches only shows by the
        gradients that arrive there, see :class:`mtl_plugins.engine.step.gradients.ParameterSplit`.
        """
        for task, loss in losses.items():
            if task not in self._seen and loss.requires_grad:
                self.add(task, map(self.name_of, self.behind(loss)))

    def behind(self, loss: Tensor) -> list[nn.Parameter]:
        """Parameters that ``loss`` was computed from, by a walk over its graph."""
        reached = parameters_behind(loss)
        return [parameter for parameter in self._parameters.values() if id(parameter) in reached]

    def add(self, task: str, names: Iterable[str]) -> None:
        """Note that ``task`` uses the parameters ``names``."""
        self._seen.add(task)
        for name in names:
            self._users.setdefault(name, set()).add(task)

    def export(self) -> dict[str, list[str]]:
        """What was seen so far, in alphabetical order, for the other ranks."""
        users = sorted(self._users.items())
        return {task: [name for name, tasks in users if task in tasks] for task in sorted(self._seen)}

    def merge(self, exports: Iterable[Mapping[str, Sequence[str]]]) -> None:
        """Take over what other ranks saw."""
        for export in exports:
            for task, names in export.items():
                self.add(task, names)

    def id_of(self, name: str) -> int:
        """``id`` of the parameter ``name``."""
        return id(self._parameters[name])

    def name_of(self, parameter: nn.Parameter) -> str:
        """Name of a parameter, see :meth:`name_all`."""
        return self._names[id(parameter)]

    @property
    def seen(self) -> frozenset[str]:
        """Tasks whose graph has been walked."""
        return frozenset(self._seen)

    def users(self, name: str) -> frozenset[str]:
        """Tasks that use the parameter ``name``."""
        return frozenset(self._users.get(name, ()))

    def shared(self) -> list[str]:
        """Names of parameters used by two or more tasks (with one task: all it uses), in the model's order."""
        least = 1 if (self.num_tasks or len(self._seen)) == 1 else 2
        return [name for name in self._parameters if len(self._users.get(name, ())) >= least]

    def own(self, task: str) -> list[str]:
        """Names of parameters that only ``task`` uses."""
        if (self.num_tasks or len(self._seen)) == 1:
            return []
        return [name for name in self._parameters if self._users.get(name) == {task}]

    def unused(self) -> list[str]:
        """Names of trainable parameters that no observed loss depends on."""
        return [name for name, p in self._parameters.items() if p.requires_grad and name not in self._users]

    def exclusive_to(self, tasks: Iterable[str]) -> set[str]:
        """Names of parameters whose users all lie in ``tasks``."""
        wanted = set(tasks)
        return {name for name, users in self._users.items() if users <= wanted}
