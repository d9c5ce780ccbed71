"""What all weightings share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.naming import RefusedValueError, as_built, check_known, check_tasks, numbers_by_task

State = dict[str, Any]
"""Name -> a tensor with an entry per task, or a count."""


class Weighting(ABC):
    """Gives every task a weight, from the values of the losses and what was told before.

    The weights are constants with respect to the model: no graph leads through them. A training loop calls, per batch,
    :meth:`begin_step`, :meth:`observe_grad_norms` (if ``needs_grad_norms``), :meth:`weights`, and after the step of the
    optimizer :meth:`after_step`. :meth:`weights` changes nothing and may be called any number of times.

    An absent task is out of the batch: the weights of the others are those that the method gives to them alone, and
    the absent task's state stays as it is. A subclass therefore sees the present tasks only: it writes
    :meth:`_weights`, and where it has a state :meth:`_start` and :meth:`_after_step`, on float64 vectors on the CPU.

    Args:
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Attributes:
        facts: What is known about the method; None for what is no method by itself.
        accumulates_exactly: Whether gradient accumulation gives the update of the large batch, given the joint losses
            in :meth:`weights` and :meth:`after_step`; a training step refuses to accumulate otherwise.
        looks_at_losses: Whether :meth:`weights` depends on the losses of the batch; if not, a training step may
            differentiate before it knows them.
        needs_after_step: Whether :meth:`after_step` wants the losses after the step, which costs one more forward.
        needs_grad_norms: Whether :meth:`observe_grad_norms` has to be called before :meth:`weights`.
        needs_kpis: Whether :meth:`update_kpis` has to be called from time to time.
        scale: What the weights add up to when all tasks count equally: ``'sum'``, the number of present tasks;
            ``'mean'``, one; ``'raw'``, neither.
    """

    facts: ClassVar[MethodFacts | None] = None
    accumulates_exactly: bool = True
    looks_at_losses: bool = True
    needs_after_step: bool = False
    needs_grad_norms: bool = False
    needs_kpis: bool = False
    scale: str = 'sum'

    def __init__(self, tasks: Sequence[str] | int | None = None) -> None:
        self.tasks: tuple[str, ...] | None = None
        self.epoch_length: int | None = None
        self._state: State = {}
        if tasks is not None:
            self.bind(tasks)

    # ------------------------------------------------------------------ what a training loop calls
    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order of the K losses (or their number), and start the state anew."""
        self.tasks = check_tasks(type(self).__name__, tasks)
        self._state = self._start(len(self.tasks))

    def set_epoch_length(self, iterations: int) -> None:
        """Tell how many steps one pass over the data takes, for methods that average over epochs.

        Raises:
            ValueError: If it is not a positive integer.
        """
        if not isinstance(iterations, int) or iterations < 1:
            raise ValueError(f'{type(self).__name__}: iterations must be an integer >= 1, but got {iterations!r}')
        self.epoch_length = iterations

    def begin_step(self, generator: torch.Generator) -> None:  # noqa: B027
        """Start a step; a method with chance in it draws here.

        Args:
            generator: CPU generator that is in the same state on all ranks.
        """

    def update_kpis(self, kpis: Mapping[str, float]) -> None:  # noqa: B027
        """Tell how good the tasks are by now.

        Args:
            kpis: One value in [0, 1] per task, larger is better, for all tasks or some.
        """

    def observe_grad_norms(self, norms: Tensor, losses: Tensor, present: Tensor) -> None:  # noqa: B027
        r"""Tell the gradient norms of this batch, before :meth:`weights`.

        Args:
            norms: :math:`\|\nabla_W L_k\|` of shape (K,): of the losses **without** weights, for the parameters W of
                the last shared layer.
            losses: K losses.
            present: Bool tensor of shape (K,).
        """

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        """Return one weight per task.

        Args:
            losses: K losses; entries of absent tasks are ignored, whatever they hold.
            present: Bool tensor of shape (K,).

        Returns:
            Tensor of shape (K,), dtype and device of ``losses``, without graph; 0 for absent tasks.

        Raises:
            RuntimeError: If the tasks, or something else that the method needs, have not been told.
            ValueError: If a shape or dtype is wrong, or the method is not defined for these losses.
        """
        values, rows = self._check('losses', losses, present)
        weights = torch.zeros_like(losses, requires_grad=False)
        if len(rows):
            weights[rows.to(weights.device)] = self._weights(values, rows).to(weights)
        return weights

    def after_step(self, before: Tensor, after: Tensor | None, present: Tensor) -> None:
        """Advance the state once per batch, after the optimizer's step.

        A task whose loss before or after the step is not finite counts as absent.

        Args:
            before: K losses that the step was made from.
            after: K losses after the step on the same batch if ``needs_after_step``, else None.
            present: Bool tensor of shape (K,).

        Raises:
            RuntimeError: If the tasks, or something else that the method needs, have not been told.
            ValueError: If a shape or dtype is wrong, or ``after`` is needed, but missing.
        """
        self._check('before', before, present)
        present = present.to(before.device) & torch.isfinite(before.detach())
        if self.needs_after_step:
            if after is None:
                raise ValueError(f'{type(self).__name__}: after_step() needs the losses after the step, but got None')
            self._check('after', after, present)
            present &= torch.isfinite(after.detach()).to(before.device)
        values, rows = self._check('before', before, present)
        later = self._check('after', after, present)[0] if self.needs_after_step else None
        if len(rows):
            self._after_step(values, later, rows)

    # ------------------------------------------------------------------ what a subclass writes
    @abstractmethod
    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        """Return the weights of the present tasks, without changing the state.

        Args:
            losses: Their P >= 1 losses, float64 on the CPU.
            rows: Their numbers, int64 of shape (P,).
        """

    def _start(self, num_tasks: int) -> State:
        """Return the first state: tensors with one row per task, and integers."""
        return {}

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:  # noqa: B027
        """Advance the state of the present tasks: P >= 1 losses before the step, after it (or None), task numbers."""

    # ------------------------------------------------------------------ state
    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors and numbers only. A weighting without state returns an empty dict."""
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in self._state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            RuntimeError: If the tasks have not been told.
            ValueError: If an entry is missing, unknown or of another shape, which means that the state is from another
                method or another number of tasks.
        """
        name = type(self).__name__
        if state and self.tasks is None:
            raise RuntimeError(f'{name}: call bind(tasks) before load_state_dict()')
        if state and not self._state:
            raise ValueError(f'{name} has no state, but got the entries {", ".join(state)}')
        if set(state) != set(self._state):
            raise ValueError(f'{name}: the state must hold {sorted(self._state)}, but holds {sorted(state)}')
        loaded: State = {}
        for key, own in self._state.items():
            value = state[key]
            if not isinstance(own, Tensor):
                loaded[key] = int(value)
                continue
            if not isinstance(value, Tensor) or value.shape != own.shape:
                found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f'{name}: state {key!r} must have shape {tuple(own.shape)}, but got {found}')
            loaded[key] = value.detach().to(own, copy=True)
        self._state = loaded

    def __repr__(self) -> str:
        return as_built(self, 'tasks')

    # ------------------------------------------------------------------ helpers
    def _check(self, argument: str, values: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Check a K-vector; return its present entries in float64 on the CPU, and their numbers."""
        if self.tasks is None:
            raise RuntimeError(f'{type(self).__name__}: call bind(tasks) before using it')
        shape = (len(self.tasks),)
        if values.shape != shape or not values.is_floating_point():
            raise ValueError(
                f'{argument} must be a float tensor of shape {shape}, '
                f'but got {values.dtype} of shape {tuple(values.shape)}'
            )
        if present.shape != shape or present.dtype != torch.bool:
            raise ValueError(
                f'present must be a bool tensor of shape {shape}, '
                f'but got {present.dtype} of shape {tuple(present.shape)}'
            )
        rows = present.detach().cpu().nonzero().flatten()
        return values.detach().to('cpu', torch.float64)[rows], rows

    def _check_sign(self, losses: Tensor, rows: Tensor) -> None:
        """Raise a ValueError if a loss is negative, for methods that are defined by its logarithm or ratio."""
        if bool((losses < 0).any()):
            worst = int(losses.argmin())
            raise RefusedValueError(
                f"{type(self).__name__} needs losses >= 0, but the loss of '{self.tasks[int(rows[worst])]}' is "
                f'{float(losses[worst]):.6g}; add a constant to this loss or use another weighting'
            )

    def _check_names(self, argument: str, names: Mapping[str, Any]) -> None:
        """Raise a ValueError if a mapping names an unknown task."""
        check_known(type(self).__name__, argument, names, self.tasks)

    def _per_task(self, argument: str, values: float | Mapping[str, float], default: float) -> Tensor:
        """Return a number for all tasks, or one per task name (``default`` for the others), as a float64 vector."""
        numbers = numbers_by_task(type(self).__name__, argument, values, self.tasks, default)
        return torch.tensor(numbers, dtype=torch.float64)


def to_sum(weights: Tensor) -> Tensor:
    """Scale positive weights so that they add up to their number; equal ones if all are zero."""
    largest = weights.max()
    weights = weights / largest if largest > 0 else torch.ones_like(weights)
    return len(weights) * weights / weights.sum()


def check_choice(owner: object, argument: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise a ValueError if an argument is none of its choices."""
    if value not in choices:
        raise ValueError(f'{type(owner).__name__}: {argument} must be one of {tuple(choices)}, but got {value!r}')


def check_number(
    owner: object, argument: str, value: Any, low: float, high: float = float('inf'), open_low: bool = False
) -> None:
    """Raise a ValueError if an argument is not a finite number in [low, high], or (low, high] with ``open_low``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (low < value if open_low else low <= value) or not value <= high or value == float('inf'):
        bracket = '(' if open_low else '['
        raise ValueError(
            f'{type(owner).__name__}: {argument} must be a number in {bracket}{low}, {high}], but got {value!r}'
        )
