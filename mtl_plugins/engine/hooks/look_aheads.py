"""What a step for one or two tasks would do to the losses of all, tried on a batch and taken back bit by bit."""

import copy
import itertools
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.errors import UserError, UserTypeError
from mtl_plugins.methods.facts import OBJECTIVES

from ..optim_wrappers.ada_task import AdaTaskOptimWrapper
from ..optimizers.spread_state import is_spread
from ..step.batch import StepBatch
from ..step.batch_norm import batch_norms, frozen_statistics
from ..step.capture import call_for_losses
from ..step.losses import TaskLosses
from ..step.noise import NoiseState
from ..step.restored import restored
from .task_grams import GramProbe, untouched

KINDS = tuple(OBJECTIVES)

Gradients = dict[nn.Parameter, Tensor]


class LookAheads(GramProbe):
    r"""Measures on a batch how much a step for some tasks lowers the losses of all others.

    The steps are those of the optimizer of the training, with its moments, rate and clipping, from the same weights and
    under the same dropout masks. The losses of all tasks count as they are, without a weighting.

    * ``'tag'``: a step of the shared parameters for task u, heads as they are:
      :math:`Z_{uv} = (1 - L_v(\theta_u) / L_v(\theta)) / \mathrm{lr}` (Fifty et al., NeurIPS 2021). K steps.
    * ``'proximal'``: a step of the shared parameters and u's own: :math:`1 - L_v(\theta_u) / L_v(\theta)`, which is
      what STGU measures of a group of one task. K steps.
    * ``'ptg'``: steps as for ``'proximal'`` for every task and every two, and the losses in evaluation mode:
      :math:`S_{ij} = 1 - L_j(\theta_{ij}) / L_j(\theta_j)`, 0 on the diagonal (arXiv 2402.15328; that the loss after
      the step for j alone is the divisor could not be confirmed). K + K (K - 1) / 2 steps.
    * ``'cosine'``: of the gradients of the shared parameters. No step.

    Nothing remains: weights, state and settings of the optimizer, buffers, gradients and random numbers are as before,
    bit for bit. The price is one forward, K backwards, a forward without graph for each step, and memory for K
    gradients.

    Args:
        model: The bare model (not its DDP wrapper), a :class:`mmengine.model.BaseModel`.
        wrapper: The optimizer wrapper; ours, or MMEngine's.
        kinds: What to measure.

    Raises:
        UserError: If there is no such kind, or the optimizer cannot step for one task.
    """

    def __init__(self, model: nn.Module, wrapper: OptimWrapper, kinds: Sequence[str]) -> None:
        optimizer = getattr(wrapper, 'optimizer', None)
        if not isinstance(optimizer, Optimizer) or is_spread(optimizer):
            name = type(getattr(wrapper, 'optimizer', wrapper)).__name__
            raise UserTypeError(
                f'looking ahead takes steps of the optimizer for single tasks, which {name} does not offer: use one '
                'optimizer of torch for the whole model'
            )
        super().__init__(model, wrapper)
        self.kinds = tuple(check_kinds(kinds))

    def expect(self, tasks: Sequence[str]) -> None:
        """Take these tasks first, in this order, as measured before a resume.

        Raises:
            UserError: If the model has others.
        """
        self._found = dict.fromkeys(tasks, None)
        if tuple(tasks) != self.tasks[: len(tasks)]:
            raise UserError(f'the checkpoint holds gains of the tasks {list(tasks)}, this run has {list(self.tasks)}')

    def measure(self, data_batch: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Measure on a batch as the data loader hands it out; a collective call.

        Returns:
            ``{kind: float64 [K, K] on the CPU}``, row = stepping task, column = affected task; NaN where a task is
            absent, not finite, or had no positive loss before the step. Empty if no task has labels, or while nothing
            is known to be shared.
        """
        # A schedule chooses now, and may clear gradients for it.
        taken_by = getattr(self._wrapper, 'current', self._wrapper)
        self._steps_apart = isinstance(taken_by, AdaTaskOptimWrapper)
        with untouched(self._model), _gradients_kept(self._model):
            data = self._model.data_preprocessor(copy.deepcopy(data_batch), True)
            self._data, self._noise = data, NoiseState(self._device)
            losses, scale = self._losses_now(grad=True), self._scale()
            self._learn_tasks(losses)
            first = [losses]
            del losses
            batch = self._batch(lambda active, *, grad: first.pop())
            before = batch.measure()
            if not before.members:
                return {}
            gradients = self._gradients(batch, before.members, scale)
            del batch
            found: dict[str, Tensor] = {}
            if not self._shared():
                return found
            if 'cosine' in self.kinds:
                found['cosine'] = self._cosines(gradients)
            for kind in (kind for kind in ('tag', 'proximal') if kind in self.kinds):
                found[kind] = self._singles(gradients, before.losses, own=kind == 'proximal')
            if 'tag' in found:
                found['tag'] /= self._rate()
            if 'ptg' in self.kinds:
                found['ptg'] = self._pairs(gradients)
            self._data = None
            return {kind: found[kind] for kind in self.kinds}

    # ------------------------------------------------------------------ forwards and gradients
    def _losses_now(self, grad: bool) -> TaskLosses:
        with ExitStack() as stack:
            stack.enter_context(self._noise.replay())
            stack.enter_context(frozen_statistics(batch_norms(self._model)))
            # A context of its own: within one, casts of weights are cached.
            stack.enter_context(self._precision())
            stack.enter_context(torch.set_grad_enabled(grad))
            return self._losses.collect(call_for_losses(self._model, self._data))

    def _gradients(self, batch: StepBatch, members: Sequence[str], scale: float) -> dict[str, Gradients]:
        """The gradients of all trainable parameters, averaged over ranks, by task."""
        (shares,) = batch.shares(members)
        trainable = self._look_at_graphs(shares)
        found = {}
        for task in members:
            here: Sequence[Tensor | None] = [None] * len(trainable)
            if task in shares:
                here = torch.autograd.grad(shares[task] * scale, trainable, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(trainable, here):
                parameter.grad = gradient
            self._reducer.sum_gradients(trainable)
            found[task] = {p: p.grad / scale for p in trainable if p.grad is not None}
        return found

    def _cosines(self, gradients: dict[str, Gradients]) -> Tensor:
        products = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
        for parameter in self._shared():
            parts = [each.get(parameter, torch.zeros_like(parameter)).flatten() for each in gradients.values()]
            rows = torch.stack(parts).double()
            products += (rows @ rows.T).cpu()
        cosines, lengths = self._nothing(), products.diagonal().sqrt()
        places = torch.tensor([self.tasks.index(task) for task in gradients])
        cosines[places[:, None], places] = products / torch.outer(lengths, lengths)
        return cosines

    def _shared(self) -> list[nn.Parameter]:
        return self._split.shared.parameters

    # ------------------------------------------------------------------ steps
    def _singles(self, gradients: dict[str, Gradients], before: Tensor, own: bool) -> Tensor:
        gains = self._nothing()
        for task in gradients:
            gains[self.tasks.index(task)] = _decrease(before, self._after([task], gradients, own))
        return gains

    def _pairs(self, gradients: dict[str, Gradients]) -> Tensor:
        gains = self._nothing()
        with _evaluating(self._model):
            alone = {task: self._after([task], gradients, own=True) for task in gradients}
            for one, other in itertools.combinations(gradients, 2):
                together = self._after([one, other], gradients, own=True)
                for source, target in ((one, other), (other, one)):
                    place = self.tasks.index(target)
                    gain = _decrease(alone[target], together)[place]
                    gains[self.tasks.index(source), place] = gain
        for task in gradients:
            gains[self.tasks.index(task), self.tasks.index(task)] = 0.0
        return gains

    def _after(self, tasks: Collection[str], gradients: dict[str, Gradients], own: bool) -> Tensor:
        """The losses ``[K]`` after a step for ``tasks``, which is taken back."""
        heads = [parameter for task in tasks for parameter in self._split.own(task)] if own else []
        moved = []
        for parameter in self._model.parameters():
            parameter.grad = None
        for parameter in [*self._shared(), *heads]:
            parts = [gradients[task][parameter] for task in tasks if parameter in gradients[task]]
            if parts:
                parameter.grad = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0].clone()
                moved.append(parameter)
        optimizer = self._wrapper.optimizer
        with restored(moved), _state_restored(optimizer, moved):
            options = self._apart(tasks, gradients) if self._steps_apart else {}
            if getattr(self._wrapper, 'clip_grad_kwargs', None):
                before = _length(moved)
                self._wrapper.clip_func(moved, **self._wrapper.clip_grad_kwargs)
                factor = _length(moved) / before
                for rows in options.get('task_grads', {}).values():
                    rows *= factor
            # Not the method of the object, by which schedules count the steps of the training.
            type(optimizer).step(optimizer, **options)
            if options:
                optimizer.update_squares = {}  # these are not the training's
            closure = lambda active, *, grad: self._losses_now(grad=False)  # noqa: E731
            return self._batch(closure).measure(grad=False).losses

    def _apart(self, tasks: Collection[str], gradients: dict[str, Gradients]) -> dict[str, Any]:
        """The gradients of the shared parameters task by task, as AdaTask steps with them."""
        rows = {}
        for parameter in (parameter for parameter in self._shared() if parameter.grad is not None):
            nothing = torch.zeros_like(parameter)
            rows[parameter] = torch.stack([gradients[task].get(parameter, nothing) for task in tasks])
        numbers = [self.tasks.index(task) for task in tasks]
        return dict(task_grads=rows, task_ids=numbers, num_tasks=len(self.tasks))

    def _rate(self) -> float:
        shared = set(map(id, self._shared()))
        groups = self._wrapper.optimizer.param_groups
        return next((float(g['lr']) for g in groups if shared & set(map(id, g['params']))), float(groups[0]['lr']))

    def _nothing(self) -> Tensor:
        return torch.full((len(self.tasks),) * 2, float('nan'), dtype=torch.float64)


def check_kinds(kinds: Any) -> list[str]:
    """Kinds of gains as a list.

    Raises:
        UserError: If they are none, or not all known.
    """
    if not isinstance(kinds, (list, tuple)) or not kinds or not all(kind in KINDS for kind in kinds):
        raise UserError(f'kinds must be some of {KINDS}, but got {kinds!r}')
    return list(kinds)


def count_steps(kinds: Collection[str], num_tasks: int) -> int:
    """Steps that a measurement tries, each with a forward without graph."""
    singles = sum(kind in kinds for kind in ('tag', 'proximal'))
    pairs = num_tasks * (num_tasks - 1) // 2 if 'ptg' in kinds else 0
    return (singles + ('ptg' in kinds)) * num_tasks + pairs


def _length(parameters: Sequence[nn.Parameter]) -> Tensor:
    norms = [parameter.grad.norm() for parameter in parameters]
    return torch.stack(norms).norm().clamp_min(1e-30) if norms else torch.ones(())


def _decrease(before: Tensor, after: Tensor) -> Tensor:
    return torch.where(before > 0, 1 - after / before, torch.nan)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _gradients_kept(model: nn.Module) -> Iterator[None]:
    kept = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


@contextmanager
def _state_restored(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Afterwards the state of these parameters, and the settings of all groups, are as before."""
    states = {parameter: optimizer.state[parameter] for parameter in parameters if parameter in optimizer.state}
    settings = [{k: copy.deepcopy(v) for k, v in group.items() if k != 'params'} for group in optimizer.param_groups]
    for parameter, state in states.items():
        optimizer.state[parameter] = copy.deepcopy(state)
    try:
        yield
    finally:
        for parameter in parameters:
            if parameter in states:
                optimizer.state[parameter] = states[parameter]
            else:
                optimizer.state.pop(parameter, None)
        for group, values in zip(optimizer.param_groups, settings):
            for name in set(group) - set(values) - {'params'}:
                del group[name]
            group.update(values)
