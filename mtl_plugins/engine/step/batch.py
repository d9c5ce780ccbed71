"""Losses and gradients of one optimizer step's data: all micro-batches of all ranks."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtl_plugins.errors import UserError

from .closure import TaskClosure
from .logged import LoggedScalar
from .losses import TaskLosses, losses_of_closure
from .noise import NoiseState
from .nonfinite import NonFiniteGuard
from .parameters import ParameterTable
from .precision import Precision
from .reduction import Reducer
from .silent_tasks import SilentTasks

Closure = Callable[..., Mapping[str, Tensor]]


@dataclass(frozen=True)
class Measurement:
    """The tasks' losses at one moment, the same on all ranks.

    Attributes:
        tasks: Names of the K tasks.
        losses: float64 ``[K]`` on the CPU, averaged over ranks and micro-batches with weight = valid elements; NaN
            where a task is not usable.
        usable: bool ``[K]``: present on some rank, and finite.
    """

    tasks: tuple[str, ...]
    losses: Tensor
    usable: Tensor

    @property
    def members(self) -> list[str]:
        """Names of the tasks that take part."""
        return [task for task, usable in zip(self.tasks, self.usable.tolist()) if usable]


class StepBatch:
    """What one optimizer step is computed from.

    A task's loss and gradient are averaged with weight n = its valid elements (1 if the model reports none and the
    task is present, 0 if absent), so that N ranks times A micro-batches equal one process on the joint batch for
    losses that are a mean over valid elements.

    A loss without a graph counts as absent, see :class:`mtl_plugins.engine.step.losses.TaskLosses`.

    With several micro-batches the counts of later ones are not known when earlier ones are differentiated, so every
    measurement first runs all of them; their graphs are not kept. Only one micro-batch's activations are ever held.
    The forward that is then differentiated sees the noise (dropout and drop-path masks) of the one that was measured.

    Args:
        closures: One per micro-batch: ``closure(active, grad=...) -> {task: loss}``.
        tasks: All task names; fixes the order of vectors.
        reducer: Sums over ranks.
        precision: Scales losses for fp16.
        guard: Is told about non-finite tasks.
        device: Where the vectors for the all-reduce live.
        parameters: Looks once at each task's graph; None skips that.
        silent: Looks at losses of exactly zero; None skips that.
        logged: Scalars for the log that come to the host with the first read.

    Attributes:
        expected: After a measurement that is still to be read: the tasks that it takes to be present and finite.
        device: As given.
        weights: For the log: the weight with which each task's gradient entered the shared update, NaN
            where a method has no such number.
        zero_rows: For the log: tasks whose gradient at what their method compares was exactly zero, so that it could
            give them no weight; their own parameters are trained as under ordinary training.
    """

    def __init__(
        self,
        closures: Sequence[Closure],
        tasks: Sequence[str],
        reducer: Reducer,
        precision: Precision,
        guard: NonFiniteGuard,
        device: torch.device,
        parameters: ParameterTable | None = None,
        silent: SilentTasks | None = None,
        logged: Sequence[LoggedScalar] = (),
    ) -> None:
        self._closures = list(closures)
        self.tasks = tuple(tasks)
        self._reducer = reducer
        self._precision = precision
        self._guard = guard
        self.device = device
        self._parameters = parameters
        self._silent = silent
        self._logged = list(logged)
        self._unread: Tensor | None = None
        self._before: list[float] = []
        self.expected: list[str] = []
        self._excluded: set[str] = set()
        self._was_finite: set[str] = set()
        self._constant: list[set[str]] = [set() for _ in self._closures]
        self._held: TaskLosses | None = None
        self._noise: list[NoiseState | None] = [None for _ in self._closures]
        #: Tasks whose valid elements changed between two forwards, so that their losses cannot be compared: an idle
        #: head turned out to be without a graph.
        self.recounted: set[str] = set()
        self._local_counts: list[list[float]] = []
        self._zero: list[list[float]] = []
        self._totals: list[float] = []
        self.num_measurements = 0
        self.num_backwards = 0
        self.weights: dict[str, float] = {}
        self.zero_rows: list[str] = []

    @property
    def num_forwards(self) -> int:
        """Forwards run for this step so far, as far as the closures count them."""
        return sum(getattr(closure, 'num_forwards', 0) for closure in self._closures)

    def measure(self, active: Sequence[str] | None = None, *, grad: bool = True) -> Measurement:
        """Run a forward of every micro-batch and average the losses: one all-reduce, one transfer to the host.

        Args:
            active: Tasks that :meth:`backward` will be called for (None: all).
            grad: False for a mere probe.
        """
        self._forward(active, grad)
        return self.read()[0]

    def measure_later(self, active: Sequence[str] | None = None) -> bool:
        """As :meth:`measure`, with the transfer left to :meth:`read`, which may follow the backward of ``expected``.

        So the numbers can be read together with what the gradients are found to be.

        Returns:
            False, and nothing has been done, where the backward needs them, with several micro-batches or ranks, and
            where the forward could not be repeated.
        """
        if len(self._closures) > 1 or self._reducer.world_size > 1:
            return False
        if not getattr(self._closures[0], 'repeatable', True):
            return False
        self._forward(active, True, repeatable=True)
        losses = self._held
        self.expected = [task for task in self.tasks if task in losses and task not in losses.constant]
        ones = [float(task in self.expected) for task in self.tasks]
        self._local_counts, self._zero, self._totals = [ones], [[0.0] * len(ones)], ones
        return True

    def read(self, also: Tensor | None = None) -> tuple[Measurement, list[float]]:
        """Bring what :meth:`measure_later` measured to the host, and with it the numbers ``also`` ``[n]``.

        Returns:
            The measurement, and the numbers.
        """
        numbers, self._unread = self._unread, None
        size, shape = len(self._closures), len(self.tasks)
        waiting, self._logged = self._logged, []
        parts = [
            numbers.flatten(),
            *([] if also is None else [also.to(numbers)]),
            *(self._number(scalar.as_subclass(Tensor)) for scalar in waiting),
        ]
        found = torch.cat([part.reshape(-1) for part in parts]).tolist()
        split = len(found) - len(waiting)
        for scalar, number in zip(waiting, found[split:]):
            scalar.number = number
        rows = [found[row * shape : (row + 1) * shape] for row in range(len(numbers))]
        self._local_counts, self._zero = rows[:size], rows[size : 2 * size]
        self._totals, loss_sums, silent = rows[2 * size :]
        self._check_counts()
        for task, ranks in zip(self.tasks, silent):
            if ranks and self._silent is not None:
                self._silent.warn(task)
        self.recounted.update(task for task, old, new in zip(self.tasks, self._before, self._totals) if old != new)
        self._before = self._totals
        return self._judge(loss_sums), found[numbers.numel() : split]

    def as_expected(self, measured: Measurement, members: Collection[str]) -> bool:
        """Whether what was differentiated before :meth:`read` was right: these tasks and no others take part.

        A loss of zero that is still to be looked at needs its graph, which is gone.
        """
        present = [task for task in measured.members if task in members]
        if present != [task for task in self.expected if task in members]:
            return False
        zero = (task for task, is_zero in zip(self.tasks, self._zero[0]) if is_zero and task in present)
        return self._silent is None or not any(map(self._silent.wants, zero))

    def _forward(self, active: Sequence[str] | None, grad: bool, repeatable: bool = False) -> None:
        """Run a forward of every micro-batch; what is to be read stays on the device."""
        self.num_measurements += 1
        single = len(self._closures) == 1
        vectors = []
        for index, closure in enumerate(self._closures):
            # Captured forwards know which losses have no graph; other closures tell in a forward with graph.
            looks = self.num_measurements == 1 and not isinstance(closure, TaskClosure)
            begun = None if single and not repeatable else NoiseState(self.device)
            losses = self._run(index, active, grad and (single or looks))
            self._noise[index] = getattr(closure, 'noise', begun)
            vectors.append(self._vector(losses))
            if single and grad:
                self._held = losses
            del losses
        counts = torch.stack([vector[0] for vector in vectors])
        zero = torch.stack([(vector[0] > 0) & (vector[1] == 0) for vector in vectors]).double()
        summed = self._reducer.sum(torch.stack(vectors).sum(0))
        self._unread = torch.cat([counts, zero, summed])

    def backward(
        self,
        members: Collection[str],
        weights: Mapping[str, float] | None = None,
        parameters: Sequence[nn.Parameter] = (),
    ) -> None:
        """Add the gradient of ``sum_k weights[k] * loss_k`` over ``members`` to ``.grad`` (this rank's share).

        Args:
            members: Usable tasks, all within the ``active`` of the last :meth:`measure`.
            weights: Task weights; None stands for ones.
            parameters: Those that :meth:`.reduction.Reducer.sum_gradients` is called for next: their gradients are
                sent to the other ranks while the last micro-batch is differentiated.
        """
        for number, shares in enumerate(self.shares(members), 1):
            if weights is not None:
                self.weights.update({task: weights[task] for task in members})
                shares = {t: loss if weights[t] == 1 else loss * weights[t] for t, loss in shares.items()}
            sends = parameters and number == len(self._closures)
            with self._reducer.during_backward(parameters, members, shares) if sends else nullcontext():
                if shares:
                    self._precision.scale(sum_of(shares.values())).backward()

    def shares(
        self, members: Collection[str], *, keep: bool = False, backwards: int = 1
    ) -> Iterator[dict[str, Tensor]]:
        """For each micro-batch, this rank's share of the members' averaged losses, with graph.

        Their gradients, summed over micro-batches and ranks, are the gradients of the averaged losses. A task without
        labels in the micro-batch has no entry.

        Args:
            members: Usable tasks, all within the ``active`` of the last :meth:`measure`.
            keep: Whether another call follows; the caller then retains the graph, and nothing is counted.
            backwards: How many backwards through the shared part the caller makes of the shares.
        """
        self.num_backwards += 0 if keep else backwards
        active = [task for task in self.tasks if task in members]
        for index in range(len(self._closures)):
            losses = self._held if self._held is not None else self._run_again(index, active)
            self._held = losses if keep and len(self._closures) == 1 else None
            shares = {}
            for k, task in enumerate(self.tasks):
                count = self._local_counts[index][k]
                if task in members and count > 0 and losses[task].requires_grad:
                    factor = count / self._totals[k]
                    shares[task] = losses[task] if factor == 1.0 else losses[task] * factor
            if self._parameters is not None:
                self._parameters.observe({task: losses[task] for task in shares})
            self._look_for_silent(index, losses, shares)
            # What takes a share out of the mapping must hold the last reference to that task's part of the graph.
            del losses
            yield shares

    def release(self, backwards: int = 0) -> None:
        """Drop the graph of a measurement that no further backward will follow.

        Args:
            backwards: Backwards that were made from :meth:`shares` with ``keep``.
        """
        self._held = None
        self.num_backwards += backwards

    def _run_again(self, index: int, active: Sequence[str]) -> TaskLosses:
        noise = self._noise[index]
        with nullcontext() if noise is None else noise.replay():
            return self._run(index, active, grad=True)

    def _run(self, index: int, active: Sequence[str] | None, grad: bool) -> TaskLosses:
        """Losses of one micro-batch, with what its forwards showed to be constant."""
        closure = self._closures[index]
        losses = closure(active, grad=grad)
        if not isinstance(closure, TaskClosure):
            losses = losses_of_closure(losses, self.tasks)
        constant = self._constant[index]
        constant |= losses.constant
        if grad:
            constant |= {t for t, loss in losses.items() if not loss.requires_grad and (active is None or t in active)}
        losses.constant = frozenset(constant)
        return losses

    def _vector(self, losses: TaskLosses) -> Tensor:
        """``[3, K]`` float64 on the model's device: valid elements, loss times valid elements, found to be silent."""
        counts = torch.stack([self._number(losses.count(task)) for task in self.tasks])
        zero = self._number(0.0)
        values = torch.stack([self._number(losses[t]) if t in losses else zero for t in self.tasks])
        one = self._number(1.0)
        silent = [one if self._silent is not None and self._silent.found(task) else zero for task in self.tasks]
        return torch.stack([counts, torch.where(counts > 0, counts * values, zero), torch.stack(silent)])

    def _check_counts(self) -> None:
        for counts in self._local_counts:
            for task, count in zip(self.tasks, counts):
                if not 0 <= count < float('inf'):
                    raise UserError(
                        f"the number of labels of task '{task}' must be >= 0, but the model reports {count}"
                    )

    def _look_for_silent(self, index: int, losses: TaskLosses, shares: Mapping[str, Tensor]) -> None:
        for k, task in enumerate(self.tasks):
            if self._zero[index][k] and task in shares and self._silent is not None and self._silent.wants(task):
                self._silent.look(task, losses[task])

    def _number(self, value: Tensor | float) -> Tensor:
        # torch.full fills on the device; torch.tensor would copy from the host and wait for it.
        if isinstance(value, Tensor):
            return value.detach().to(self.device, torch.float64).reshape(())
        return torch.full((), value, dtype=torch.float64, device=self.device)

    def _judge(self, loss_sums: list[float]) -> Measurement:
        totals = torch.tensor(self._totals, dtype=torch.float64)
        losses = torch.tensor(loss_sums, dtype=torch.float64) / totals.where(totals > 0, torch.ones(()).double())
        present = totals > 0
        if self._silent is not None and not present.any():
            self._silent.warn_of_nothing()
        finite = torch.isfinite(losses)
        for task, is_present, is_finite in zip(self.tasks, present.tolist(), finite.tolist()):
            if is_present and not is_finite:
                self._guard.report(task, 'moved' if task in self._was_finite else 'loss')
                self._excluded.add(task)
            elif is_present:
                self._was_finite.add(task)
        allowed = torch.tensor([task not in self._excluded for task in self.tasks])
        usable = present & finite & allowed
        return Measurement(self.tasks, losses.where(usable, torch.nan), usable)


def sum_of(losses: Iterable[Tensor]) -> Tensor:
    """Sum of one or more scalars; of one it is that scalar itself."""
    first, *others = losses
    return sum(others, start=first)
