"""What all step strategies share: entering the step, averaging over ranks, stepping the optimizer."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.errors import UserError, UserRuntimeError, refusing
from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.naming import RefusedValueError
from mtl_plugins.utils.argument_types import Count

from ..one_task import one_task_note
from ..running import AskedByRunners, prepare_wrapper, warn_of_lost_batches
from ..step.batch import Closure, StepBatch
from ..step.batch_norm import Policy, synchronises
from ..step.capture import ForwardCapture
from ..step.clipping import check_clipping
from ..step.closure import ForwardPolicy, TaskClosure
from ..step.gradients import ParameterSplit, refuse_complex
from ..step.guards import bare_model, refuse_backward, refuse_compiled, refuse_sparse, refuse_step
from ..step.logged import read_together
from ..step.losses import LossTable
from ..step.nonfinite import NonFiniteGuard, all_finite
from ..step.parameters import ParameterTable
from ..step.precision import Precision, precision_entry
from ..step.reduction import Reducer
from ..step.silent_tasks import SilentTasks
from ..step_cost import Priced
from ..step_log import log_step
from .late_read import LateRead
from .saved_state import SavedState
from .task_names import TaskNames, Use


class StepOptimWrapper(AskedByRunners, Priced, SavedState):
    """Base of all step strategies: an MMEngine optimizer wrapper that sees the losses of single tasks.

    ``optim_context(model)`` catches the batch and the loss dict of the forward that ``train_step`` makes;
    ``update_params(loss)`` then runs the strategy on them. Neither Runner, loop, DDP class nor model has to change.
    Own loops call :meth:`step_tasks` with any ``closure(active=None, grad=True) -> {task: scalar loss}``.

    Args:
        optimizer: The optimizer that is stepped.
        tasks: Names of the tasks and how loss keys map to them, see :class:`mtl_plugins.engine.step.losses.LossTable`.
            None: the model's ``tasks`` if it has some, else the loss keys of the first batch.
        num_valid: Entries of the model's output that count the labels behind the losses, where they have names of
            their own; see :class:`mtl_plugins.engine.step.losses.LossTable`.
        precision: ``'fp32'`` (the default), ``'bf16'``, ``'fp16'``, or a dict of :class:`.precision.Precision`.
        accumulative_counts: Batches per optimizer step; exact for every strategy (see
            :class:`mtl_plugins.engine.step.batch.StepBatch`), at the price of one more forward without graph each.
        clip_grad: As in MMEngine; acts on the averaged gradient that is stepped.
        bn_stats: Which forwards of a batch update BatchNorm statistics: ``'first'``, ``'every'`` or ``'active'``; see
            :data:`mtl_plugins.engine.step.batch_norm.Policy`.
        same_noise: Whether all forwards of a batch see the same dropout and drop-path masks.
        nonfinite: Options of :class:`mtl_plugins.engine.step.nonfinite.NonFiniteGuard`.
        seed: Seed of the strategy's private random generator; None takes torch's initial seed of rank 0.
        loss_scale, dtype: As for MMEngine's ``AmpOptimWrapper``; ``precision`` comes first.

    Raises:
        ValueError: If an argument is out of range.
    """

    facts: MethodFacts | None = None
    """What is known about the method, if the strategy is what makes it."""
    maps_parameters = False
    """Whether the strategy finds out itself, in step with all ranks, which parameters each task uses."""

    backward = refuse_backward
    saves_are_announced = False
    """Whether :meth:`gather_state` is called on all ranks before each save, so that state may be spread over them."""

    def __init__(
        self,
        optimizer: Optimizer,
        tasks: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        precision: str | dict[str, Any] | None = None,
        accumulative_counts: Count = 1,
        clip_grad: dict[str, Any] | None = None,
        bn_stats: Policy = 'first',
        same_noise: bool = False,
        nonfinite: dict[str, Any] | None = None,
        seed: int | None = None,
        loss_scale: str | float | dict[str, Any] | None = None,
        dtype: Any = None,
        num_valid: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        super().__init__(optimizer, accumulative_counts, check_clipping(clip_grad))
        self.losses = LossTable(tasks, num_valid)
        self.names = TaskNames(self.losses)
        entry = precision_entry(precision, loss_scale, dtype)
        with refusing('precision'):
            self.precision = Precision(**entry) if isinstance(entry, Mapping) else Precision(entry)
        self.bn_stats = bn_stats
        self.same_noise = same_noise
        with refusing('nonfinite'):
            self.guard = NonFiniteGuard(**(nonfinite or {}))
        self.silent = SilentTasks()
        self.late = LateRead()
        #: Whether a run with one task only is still to be told what that means.
        self.notes_one_task = True
        self.reducer = Reducer()
        self.split = ParameterSplit(self.reducer)
        self.seed = seed
        first = self.reducer.gather_objects(torch.initial_seed())[0] if seed is None else seed
        self.generator = torch.Generator().manual_seed(int(first) % 2**63)
        self.policy: ForwardPolicy | None = None
        self._steps = False
        self._table: ParameterTable | None = None
        self.zero_rows: dict[str, int] = {}
        self._capture = ForwardCapture(self.losses)
        self._request: Sequence[str] | None = None
        self._pending: list[Closure] = []

    # ------------------------------------------------------------------ entering a step
    @property
    def task_names(self) -> tuple[str, ...] | None:
        """The tasks in the order of all vectors and matrices; None before they are known."""
        return self.losses.tasks

    @property
    def strategies(self) -> tuple[StepOptimWrapper, ...]:
        """Those that take the steps: this one, or those that a schedule chooses from."""
        return (self,)

    @property
    def current(self) -> StepOptimWrapper:
        """The one that takes this step."""
        return self

    @property
    def at_step_boundary(self) -> bool:
        """Whether no micro-batch waits for its optimizer step, so that a checkpoint loses nothing."""
        return not self._pending

    def attach(self, model: nn.Module) -> None:
        """Meet the model: refuse what cannot work, and learn its task names if none were configured.

        Raises:
            TypeError: See :func:`mtl_plugins.engine.step.guards.bare_model`.
            UserError: For complex and sparse gradients, by methods that compare gradients.
        """
        # The Runner compiles train_step after the wrapper has met the model.
        refuse_compiled(model)
        model = getattr(model, '_orig_mod', model)
        if self._attached is model:
            return
        core = bare_model(model)
        prepare_wrapper(self, core)
        if self.task_names is None and getattr(core, 'tasks', None):
            self.names.settle(tuple(core.tasks))
        self.policy = ForwardPolicy(
            core, self.losses, self.precision, ParameterTable(core), self.bn_stats, self.same_noise
        )
        self.reducer.graph_communicates = synchronises(core)
        if any(strategy.maps_parameters for strategy in self.strategies):
            refuse_complex(self._trainable())
            refuse_sparse(core)
        self._attached = model

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Called by the Runner before training; see :class:`mmengine.optim.OptimWrapper`."""
        self.attach(model)
        super().initialize_count_status(model, init_counts, max_counts)
        warn_of_lost_batches(init_counts, self._accumulative_counts)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Wrap the forward of ``train_step``: own autocast, no DDP synchronisation, losses captured per task."""
        self.attach(model)
        self._compare_plans()
        # The counts of later micro-batches are needed before the first backward, so their forwards only measure: their
        # graph tells which losses have one, and is dropped at the end of this forward.
        measures_only = self._accumulative_counts > 1
        self._request = None if measures_only or self.task_names is None else self.first_request()
        if getattr(model, 'broadcast_buffers', False):
            self.reducer.broadcast_all(self.policy.model.buffers())  # which DDP leaves out under no_sync
        with (
            model.no_sync() if hasattr(model, 'no_sync') else nullcontext(),
            self.watching(),
            self.policy.forward_context(self._request, grad=True, first=True),
            self._capture.watch(self.policy.model, self.policy.device),
        ):
            yield

    def update_params(
        self, loss: Tensor, step_kwargs: dict[str, Any] | None = None, zero_kwargs: dict[str, Any] | None = None
    ) -> None:
        """Run the strategy on the captured forward; ``loss`` must be the detached sum of its losses.

        Raises:
            RuntimeError: If no forward was captured, or its losses were changed since.
            ValueError: If ``step_kwargs`` or ``zero_kwargs`` are given: a step may consist of several optimizer steps.
        """
        if step_kwargs or zero_kwargs:
            raise UserError('multi-task optimizer wrappers take no step_kwargs and zero_kwargs in update_params()')
        self._capture.add_total(loss)
        # No local variable for what was captured: it would pin the graph of the first forward during the whole step.
        self.step_tasks(TaskClosure(self.policy, self._capture.take(), self._request, self._accumulative_counts == 1))
        self._capture.check_total()

    def step_tasks(self, closure: Closure) -> None:
        """Take the training step of one batch; every ``accumulative_counts``-th call moves the weights.

        Args:
            closure: ``closure(active=None, *, grad=True) -> {task: scalar loss}`` on this batch; a
                :class:`mtl_plugins.engine.step.losses.TaskLosses` also carries valid elements.

        Raises:
            NonFiniteError: If a task or the gradient was not finite for too many batches in a row.
            UserRuntimeError: If the method cannot work with a loss, or was not told what it needs.
        """
        self._pending.append(closure)
        self._inner_count += 1
        if not self.should_update():
            read_together(self._capture.logged)
            return
        closures, self._pending = self._pending, []
        self._optimizer_state = None
        if self.task_names is None:
            self.names.discover(closures, self.reducer)
        batch = StepBatch(
            closures,
            self.task_names,
            self.reducer,
            self.precision,
            self.guard,
            self._device,
            None if self.maps_parameters or self.policy is None else self.policy.parameters,
            self.silent,
            self._capture.logged,
        )
        if self.notes_one_task and len(self.task_names) == 1:
            print_log(self.one_task_note(), logger='current', level=logging.WARNING)
        self.notes_one_task = False
        self._steps = True
        try:
            self._step_tasks(batch)
        except RefusedValueError as error:
            raise UserRuntimeError(str(error)) from error
        finally:
            self._steps = False
        self.guard.end_batch()
        self.silent.watch_rate(self.optimizer)
        self._log(batch)

    @abstractmethod
    def _step_tasks(self, batch: StepBatch) -> None:
        """The strategy: measure, differentiate and step, as often as it needs."""

    def one_task_note(self) -> str:
        """What a user should know if the run has one task only, with tasks that could be made of its losses."""
        return one_task_note(self.task_names[0], self.method_name, self.losses.seen_keys)

    def first_request(self) -> Sequence[str] | None:
        """Tasks whose losses the forward of ``train_step`` must have a graph for (None: all)."""
        return None

    def watching(self) -> AbstractContextManager[None]:
        """A context around the forward of ``train_step``, for what a strategy wants to see of it."""
        return nullcontext()

    # ------------------------------------------------------------------ services for strategies
    def when_tasks_are_known(self, use: Use) -> None:
        """Call ``use(tasks)``, now or once the first batch has told the names of the tasks."""
        self.names.when_known(use)

    def finish_step(self) -> bool:
        """Sum the gradients over ranks, step, and clear them; returns whether the weights moved."""
        self.reducer.sum_gradients(self._trainable())
        moved = self.step()
        self.zero_grad()
        return moved

    def step(self, **kwargs: Any) -> bool:
        """Unscale, check, clip and step the optimizer once.

        Returns:
            False if the step was skipped: no gradient at all, or one that was not finite.

        Raises:
            UserRuntimeError: Outside of :meth:`step_tasks`, where the gradient is not that of the method.
        """
        if not self._steps:
            refuse_step(self)
        gradients = [p.grad for p in self._trainable() if p.grad is not None]
        finite, self.late.finite = self.late.finite, None
        if not gradients:
            return False
        self.precision.unscale_(self.optimizer)
        if not self.precision.uses_scaler and self.guard.check_grads and not all_finite(gradients, finite):
            self.guard.report(self.guard.GRADIENT)
            return False
        if self.clip_grad_kwargs:
            self._clip_grad()
        return self.precision.step(self.optimizer, **kwargs)

    def parameter_table(self) -> ParameterTable:
        """Who uses which parameter of the model, or of the optimizer where no model was met."""
        if self.policy is None and self._table is None:
            stepped = [p for group in self.optimizer.param_groups for p in group['params']]
            self._table = ParameterTable(nn.ParameterList(stepped))
        table = self._table if self.policy is None else self.policy.parameters
        table.num_tasks = len(self.task_names)
        return table

    def learn_parameters(self, members: Collection[str], shares: Mapping[str, Tensor]) -> None:
        """Find out which of the parameters that are trainable now are shared."""
        self.split.follow(self.parameter_table(), self._trainable())
        self.split.update(members, shares)

    def decide(self, decision: Callable[[], Sequence[int]]) -> list[int]:
        """Rank 0's integers; on other ranks ``decision`` runs too, so that private generators stay in step."""
        return self.reducer.broadcast_ints(decision(), self._device)

    def _trainable(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group['params'] if p.requires_grad]

    @property
    def _device(self) -> torch.device:
        return self.optimizer.param_groups[0]['params'][0].device

    def _log(self, batch: StepBatch) -> None:
        """Write scalars to the message hub; called once per optimizer step."""
        log_step(self, batch)
