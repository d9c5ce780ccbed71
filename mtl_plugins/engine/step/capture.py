"""Catching the prepared batch and the loss dict of the forward that ``train_step`` makes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mtl_plugins.errors import UserRuntimeError, UserTypeError

from .closure import CapturedForward
from .logged import LoggedScalar
from .losses import LossTable, is_loss_key
from .noise import NoiseState


@contextmanager
def watching_losses(
    model: nn.Module,
    after: Callable[[tuple, dict[str, Any], Any], Any],
    before: Callable[[tuple, dict[str, Any]], None] | None = None,
) -> Iterator[None]:
    """Inside the context, ``after(args, kwargs, output)`` sees every ``model(..., mode='loss')`` call.

    The hooks are gone afterwards, so that copies of the model carry none.

    Args:
        model: The bare model.
        after: What it returns takes the place of the output, unless it is None.
        before: Called before each of these forwards, with its arguments.
    """

    def begin(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if before is not None and kwargs.get('mode') == 'loss':
            before(args, kwargs)

    def end(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        return after(args, kwargs, output) if kwargs.get('mode') == 'loss' else None

    handles = [
        model.register_forward_pre_hook(begin, with_kwargs=True),
        model.register_forward_hook(end, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def loss_forward(model: nn.Module, data_batch: Any) -> Mapping[str, Any]:
    """The losses of a batch as the data loader hands it out, with graph: a forward without a training step."""
    return call_for_losses(model, model.data_preprocessor(data_batch, True))


def call_for_losses(model: nn.Module, data: Any) -> Mapping[str, Any]:
    """The losses of a batch that is prepared already."""
    return model(**data, mode='loss') if isinstance(data, Mapping) else model(*data, mode='loss')


class ForwardCapture:
    """Watches a model with public forward hooks for one ``mode='loss'`` call.

    The hook hands ``train_step`` a detached copy of the loss dict: parsing and logging work as usual, and its local
    variables do not pin the activations while the step strategy runs further forwards.

    Args:
        losses: Tells losses from counts.
    """

    def __init__(self, losses: LossTable) -> None:
        self._losses = losses
        self._noise: NoiseState | None = None
        self._captured: CapturedForward | None = None
        self._versions: list[int] = []
        #: The losses that train_step was given, and what it made of them.
        self._parts: list[Tensor] = []
        self._total: Tensor | float = torch.zeros(())
        #: What the log will ask for of the last forward.
        self.logged: list[LoggedScalar] = []

    @contextmanager
    def watch(self, model: nn.Module, device: torch.device) -> Iterator[None]:
        """Capture inside the context."""
        self._captured = self._noise = None

        def before(args: tuple, kwargs: dict[str, Any]) -> None:
            self._noise = NoiseState(device)
            self._versions = _versions([args, kwargs])

        def after(args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
            if self._captured is not None:
                raise UserRuntimeError(
                    'the model ran mode="loss" twice within one optim_context; a multi-task step needs one forward per '
                    'train_step. Override train_step so that it makes one, or call step_tasks(closure) yourself'
                )
            if not isinstance(output, dict):
                raise UserTypeError(
                    f'model(mode="loss") must return a dict of losses for multi-task training, but got '
                    f'{type(output).__name__}'
                )
            if any(isinstance(value, LoggedScalar) for value in output.values()):
                raise UserRuntimeError(
                    'two multi-task wrappers watch one forward, and each step needs a graph of its own: give each its '
                    'own optim_context with a forward in it, and call its update_params before the next'
                )
            changed = _versions([args, kwargs]) != self._versions
            self._captured = CapturedForward(args, kwargs, output, self._noise, changed)
            detached = self._losses.detached(output)
            losses = [value for key, value in detached.items() if is_loss_key(key)]
            self._parts = [part for value in losses for part in (value if isinstance(value, list) else [value])]
            self.logged = [value for value in detached.values() if isinstance(value, LoggedScalar)]
            return detached

        with watching_losses(model, after, before):
            yield

    def take(self) -> CapturedForward:
        """Hand out the captured forward, once.

        Raises:
            RuntimeError: If nothing was captured since the last call.
        """
        captured, self._captured, self._noise = self._captured, None, None
        if captured is None:
            raise UserRuntimeError(
                'update_params() was called without a model(..., mode="loss") forward inside optim_context(model). '
                'A model with its own train_step must use both as BaseModel.train_step does, or call '
                'optim_wrapper.step_tasks(closure) instead'
            )
        return captured

    def add_total(self, total: Tensor | float) -> None:
        """Take what ``train_step`` made of the losses: it comes to the host with them.

        Raises:
            UserRuntimeError: If a part of it has a graph of its own, which no step differentiates.
        """
        self._total = total
        # Of a batch without any loss, MMEngine's sum is the number 0.
        if isinstance(total, Tensor) and total.requires_grad:
            raise UserRuntimeError(f'the loss given to update_params() has a graph of its own: {_ELSEWHERE}')
        if isinstance(total, LoggedScalar):
            self.logged.append(total)

    def check_total(self) -> None:
        """Compare what ``train_step`` made of the losses with their sum, once both are on the host.

        Raises:
            UserRuntimeError: If they differ: the step has then followed other losses than those that it was to follow.
        """
        numbers = [float(part.mean()) for part in self._parts]
        error, scale = abs(float(self._total) - sum(numbers)), sum(map(abs, numbers))
        # Losses in 16 bits are added in 16 bits.
        rounding = 1e-4 if all(part.dtype.itemsize > 2 for part in self._parts) else 0.02
        if error > rounding * scale:
            raise UserRuntimeError(
                f'the losses that the model returned add up to {sum(numbers):.6g}, but update_params() was given '
                f'{float(self._total):.6g}: {_ELSEWHERE}'
            )


_ELSEWHERE = (
    "the model's train_step or parse_losses changes or adds to the losses after the forward, and a multi-task step "
    'differentiates only what model(..., mode="loss") returns. Weight, add and leave out losses in there'
)


def _versions(value: Any) -> list[int]:
    """How often each tensor in nested arguments was changed in place."""
    if isinstance(value, Tensor):
        return [] if value.is_inference() else [value._version]
    if isinstance(value, BaseDataElement):
        value = value.all_values()
    elif isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [version for each in value for version in _versions(each)]
