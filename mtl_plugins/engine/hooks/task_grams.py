"""Scalar products of the tasks' gradients, layer by layer, taken beside the training without touching it."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mtl_plugins.runtime.hooks.rng_state import get_rng_state, set_rng_state

from ..optim_wrappers import StepOptimWrapper
from ..step.batch import Closure, StepBatch
from ..step.capture import loss_forward
from ..step.gradients import ParameterSplit
from ..step.losses import LossTable, TaskLosses
from ..step.nonfinite import NonFiniteGuard
from ..step.parameters import ParameterTable
from ..step.precision import Precision
from ..step.reduction import Reducer
from ..step.task_rows import TaskRows

_HALF_SCALE = 1024.0
"""Factor on losses computed in fp16, whose small gradients would vanish otherwise."""


class GramProbe:
    """Differentiates the loss of every task by itself on a batch, and gives the products of the gradients.

    The gradients are those of the shared parameters, averaged over ranks with the weights of a training step (valid
    elements). Nothing of the training is touched: random numbers, buffers such as BatchNorm statistics, ``.grad``
    and the batch are as before. A step on the same batch right afterwards sees the same augmentation and dropout masks.

    The price of a call is one forward and K backwards, and memory for K gradients.

    Args:
        model: The bare model (not its DDP wrapper), a :class:`mmengine.model.BaseModel`.
        wrapper: The optimizer wrapper, for its precision and for how it assigns losses to tasks; ours, or MMEngine's.
    """

    def __init__(self, model: nn.Module, wrapper: OptimWrapper) -> None:
        self._model = model
        self._wrapper = wrapper
        self._losses = wrapper.losses if isinstance(wrapper, StepOptimWrapper) else LossTable(None)
        self._reducer = Reducer()
        self._guard = _SilentGuard()
        self._table = ParameterTable(model)
        self._split = ParameterSplit(self._reducer)
        self._found: dict[str, None] = {}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of the matrices; where nobody names them, those seen so far."""
        return self._losses.tasks or tuple(self._found)

    def measure(self, data_batch: Any) -> dict[str, Tensor]:
        """Run on a batch as the data loader hands it out; a collective call.

        Returns:
            ``{layer: float64 [K, K] on the CPU}`` for all shared parameters, in the model's order. A layer is a module
            without parts; a parameter beside the parts of a module is one too. Entry (i, j) is the product of the
            gradients of tasks i and j, NaN if one of them is absent or not finite.
        """
        with untouched(self._model):
            losses, scale = self._forward(copy.deepcopy(data_batch))
            self._learn_tasks(losses)
            return self._products(losses, scale)

    def _learn_tasks(self, losses: TaskLosses) -> None:
        for names in self._reducer.gather_objects(list(losses)):
            self._found |= dict.fromkeys(names)

    def _forward(self, data_batch: Any) -> tuple[TaskLosses, float]:
        """The losses with graph, and the factor that they need before they are differentiated."""
        # A forward of its own autocast context: within one context, casts of weights are cached.
        with self._precision():
            out = loss_forward(self._model, data_batch)
        return self._losses.collect(out), self._scale()

    def _scale(self) -> float:
        device = self._device.type
        with self._precision():
            half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16
        return _HALF_SCALE if half else 1.0

    def _precision(self) -> Any:
        if isinstance(self._wrapper, StepOptimWrapper):
            return self._wrapper.precision.autocast(self._device.type)
        return self._wrapper.optim_context(self._model)

    def _products(self, losses: TaskLosses, scale: float) -> dict[str, Tensor]:
        batch = self._batch(lambda active, *, grad: losses)
        members = batch.measure().members
        if not members:
            return {}
        (shares,) = batch.shares(members)
        self._look_at_graphs(shares)
        rows = TaskRows.zeros(members, self._split.shared, self._device)
        rows.add({task: loss * scale for task, loss in shares.items()})
        self._reducer.sum(rows.matrix).div_(scale)
        return self._by_layer(rows)

    def _batch(self, closure: Closure) -> StepBatch:
        return StepBatch([closure], self.tasks, self._reducer, Precision(), self._guard, self._device)

    def _look_at_graphs(self, losses: Mapping[str, Tensor]) -> list[nn.Parameter]:
        """Learn which parameters the tasks use, for which there is time beside the training; the trainable ones."""
        trainable = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._table.num_tasks = len(self.tasks)
        self._split.follow(self._table, trainable)
        self._split.learn({task: self._table.behind(loss) for task, loss in losses.items()})
        return trainable

    def _by_layer(self, rows: TaskRows) -> dict[str, Tensor]:
        summed: dict[str, Tensor] = {}
        layers = {id(parameter): layer for parameter, layer in _layers(self._model)}
        for parameter, part in rows.layout.parts(rows.matrix).items():
            layer = layers[id(parameter)]
            part = part.double()
            summed[layer] = part @ part.T + summed.get(layer, 0.0)
        products = {}
        places, count = torch.tensor([self.tasks.index(task) for task in rows.tasks]), len(self.tasks)
        for layer, matrix in summed.items():
            whole = torch.full((count, count), float('nan'), dtype=torch.float64)
            whole[places[:, None], places] = matrix.cpu()
            products[layer] = whole.where(torch.isfinite(whole), torch.full_like(whole, float('nan')))
        return products

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device


def _layers(model: nn.Module) -> Iterator[tuple[nn.Parameter, str]]:
    for name, module in model.named_modules():
        has_parts = next(module.children(), None) is not None
        for own, parameter in module.named_parameters(recurse=False):
            yield parameter, '.'.join(filter(None, [name, own if has_parts or not name else '']))


class _SilentGuard(NonFiniteGuard):
    """The step that follows on the same batch reports what is not finite."""

    def report(self, name: str, kind: str = 'loss') -> None:
        """Say nothing."""


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Afterwards the random generators of this process and the buffers of ``model`` are as before."""
    random = get_rng_state()
    # By module, since a forward may also put another tensor in a buffer's place.
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                buffer.copy_(value)
                setattr(module, name, buffer)
        set_rng_state(random)
