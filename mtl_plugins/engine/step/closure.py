"""Re-running the model on the current, already prepared batch: the one thing that step strategies see of a model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtl_plugins.errors import UserRuntimeError

from .batch_norm import Policy, batch_norms, frozen_statistics
from .losses import LossTable, TaskLosses
from .noise import NoiseState
from .parameters import ParameterTable
from .precision import Precision


@contextmanager
def active_tasks(model: nn.Module, tasks: Sequence[str] | None) -> Iterator[None]:
    """Ask ``model``, which offers this, to give a graph only to ``tasks``; None asks for nothing."""
    if tasks is None:
        yield
        return
    model.set_active_tasks(tuple(tasks))
    try:
        yield
    finally:
        model.set_active_tasks(None)


@dataclass
class ForwardPolicy:
    """How every forward of a batch is run.

    Args:
        model: The bare model (not its DDP wrapper).
        losses: Assigns loss keys to tasks.
        precision: Autocast settings.
        parameters: Who uses which parameter, for ``bn_stats='active'``.
        bn_stats: See :data:`mtl_plugins.engine.step.batch_norm.Policy`.
        same_noise: Whether all forwards of one batch see the same dropout and drop-path masks.
    """

    model: nn.Module
    losses: LossTable
    precision: Precision
    parameters: ParameterTable
    bn_stats: Policy = 'first'
    same_noise: bool = False

    def __post_init__(self) -> None:
        #: Whether a loss without a graph was seen. An idle head's loss has none either, so from then on no head is
        #: idle: only so can be told which tasks take part in a batch.
        self.sees_constants = False
        self._layers = batch_norms(self.model)
        self._layer_names = {id(m): name for name, m in self.model.named_modules()}

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    @property
    def repeatable(self) -> bool:
        """Whether a forward may be made once more: no further one moves statistics of BatchNorm."""
        return self.bn_stats == 'first' or not self._layers

    def asked(self, active: Sequence[str] | None) -> Sequence[str] | None:
        """Tasks whose losses must have a graph in a forward for ``active`` (None: all)."""
        offers_it = getattr(self.model, 'set_active_tasks', None) is not None
        return active if offers_it and not self.sees_constants else None

    @contextmanager
    def forward_context(self, active: Sequence[str] | None, *, grad: bool, first: bool) -> Iterator[None]:
        """Everything around one forward; ``first`` marks the forward that ``train_step`` itself makes."""
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(grad))
            stack.enter_context(self.precision.autocast(self.device.type))
            stack.enter_context(active_tasks(self.model, self.asked(active)))
            stack.enter_context(frozen_statistics(self._frozen_layers(active, first)))
            yield

    def _frozen_layers(self, active: Sequence[str] | None, first: bool) -> list[nn.Module]:
        if self.bn_stats == 'every' or (self.bn_stats == 'first' and first):
            return []
        if self.bn_stats == 'first':
            return self._layers
        # In the first batch, a layer that only idle tasks were seen to use may turn out to be shared.
        if active is None or self.parameters.seen < set(self.losses.tasks or ()):
            return []
        idle = self.parameters.exclusive_to(self.parameters.seen - set(active))
        return [layer for layer in self._layers if any(name in idle for name in self._parameter_names(layer))]

    def _parameter_names(self, layer: nn.Module) -> list[str]:
        return [f'{self._layer_names[id(layer)]}.{name}' for name, _ in layer.named_parameters(recurse=False)]


@dataclass
class CapturedForward:
    """The forward that ``train_step`` made: its arguments, whether it changed them, its losses and the noise it saw."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    loss_dict: Mapping[str, Tensor | Sequence[Tensor]]
    noise: NoiseState
    changed: bool = False


class TaskClosure:
    """``closure(active=None, grad=True) -> TaskLosses``: the losses of the current batch at the present weights.

    All present tasks are measured. Those outside ``active`` come without a graph; ``active=None`` stands for all.
    Re-runs go to the bare model, never through DDP, use the already preprocessed batch (so that batch augmentation is
    not drawn again), and leave the global random stream untouched if ``same_noise`` is on.

    Args:
        policy: How forwards are run.
        captured: The forward made by ``train_step``; handed out by the first call that it can serve.
        request: The tasks that had a graph in it (None: all).
        grad: Whether its graph is of use; if not, it is dropped at once.

    Attributes:
        noise: The random state that the forward of the last call began with, so that it can be repeated.
        repeatable: See :class:`ForwardPolicy`.
    """

    def __init__(
        self, policy: ForwardPolicy, captured: CapturedForward, request: Sequence[str] | None, grad: bool
    ) -> None:
        self._policy = policy
        self._args, self._kwargs, self._changed = captured.args, captured.kwargs, captured.changed
        self.noise = self._noise = captured.noise
        self.repeatable = policy.repeatable
        self._constant: set[str] = set()
        losses = policy.losses.collect(captured.loss_dict)
        self._look(losses, policy.asked(request))
        self._first: TaskLosses | None = losses if grad else self._trim(losses, None, grad=False)
        self._first_request = None if request is None else frozenset(request)
        self._first_grad = grad
        self.seen_tasks = list(losses)
        self.num_forwards = 1

    def __call__(self, active: Sequence[str] | None = None, *, grad: bool = True) -> TaskLosses:
        """Measure all present tasks; see the class."""
        if self._first is not None:
            first, self._first = self._first, None
            # Where it cannot serve, the forward that replaces it sees the same noise: its losses are in the log.
            losses = first if self._serves(active, grad) else self._run(active, grad, replay=True)
            return self._trim(losses, active, grad)
        return self._trim(self._run(active, grad, replay=self._policy.same_noise), active, grad)

    def _serves(self, active: Sequence[str] | None, grad: bool) -> bool:
        if not grad:
            return True
        if not self._first_grad:
            return False
        return self._first_request is None or (active is not None and set(active) <= self._first_request)

    def _run(self, active: Sequence[str] | None, grad: bool, replay: bool) -> TaskLosses:
        self.num_forwards += 1
        policy = self._policy
        if self._changed:
            raise UserRuntimeError(
                f'the forward of {type(policy.model).__name__} changes its batch in place, so that the further '
                'forwards that this method makes of the batch would see another one: write x = x * 2, not x *= 2'
            )
        with ExitStack() as stack:
            if replay:
                stack.enter_context(self._noise.replay())
            self.noise = NoiseState(policy.device)
            asked = policy.asked(active)
            stack.enter_context(policy.forward_context(active, grad=grad, first=False))
            losses = policy.losses.collect(policy.model(*self._args, **self._kwargs))
        if grad:
            self._look(losses, asked)
        return losses

    def _look(self, losses: TaskLosses, asked: Sequence[str] | None) -> None:
        """Remember, for all forwards of this batch, which losses came without a graph that was asked for."""
        found = {t for t, loss in losses.items() if not loss.requires_grad and (asked is None or t in asked)}
        self._constant |= found
        self._policy.sees_constants |= bool(found)

    def _trim(self, losses: TaskLosses, active: Sequence[str] | None, grad: bool) -> TaskLosses:
        keep = set(losses) if grad and active is None else set(active or ()) if grad else set()
        return TaskLosses(
            {task: loss if task in keep else loss.detach() for task, loss in losses.items()},
            losses.num_valid,
            self._constant,
        )
