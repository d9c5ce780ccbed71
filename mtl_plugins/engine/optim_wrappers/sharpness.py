"""Sharpness-aware multi-task learning: each task's gradient at its own worst nearby point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.methods.catalogue import StepCost
from mtl_plugins.registry import AGGREGATORS, OPTIM_WRAPPERS

from ..methods import build_part
from ..step_batch import Measurement, StepBatch
from .aggregation import GradientAggregationOptimWrapper
from .base import all_finite
from .weighted_sum import task_weights

_TINY = 1e-12


class _PerturbedOptimWrapper(GradientAggregationOptimWrapper):
    """What both methods share: ``rho``, moving weights and bringing them back bit by bit."""

    def __init__(
        self, optimizer: Optimizer, aggregator: dict[str, Any] | None = None, rho: float = 0.05, **kwargs: Any
    ) -> None:
        if not rho > 0:
            raise ValueError(f'rho must be > 0, but got {rho!r}')
        if kwargs.get('interval', 1) != 1:
            raise ValueError('sharpness-aware methods need the gradients of every step; use interval=1')
        for name, only in (('heads', 'sum'), ('level', 'parameters')):
            if kwargs.get(name, only) != only:
                raise ValueError(f'sharpness-aware methods know {name}={only!r} only, but got {kwargs[name]!r}')
        self.rho = float(rho)
        super().__init__(optimizer, aggregator or dict(type='Sum'), **{'heads': 'sum', **kwargs})

    @contextmanager
    def moved(self, parameters: Sequence[nn.Parameter], directions: Sequence[Tensor]) -> Iterator[None]:
        """Add ``directions`` to ``parameters`` inside the context; afterwards the former values are copied back."""
        saved = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions):
                parameter.add_(direction)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(parameters, saved):
                    parameter.copy_(value)

    def take_own_gradients(self, members: Sequence[str]) -> dict[str, list[Tensor]]:
        """The own parameters' gradients without loss scale, taken out of ``.grad``."""
        own = {
            task: [
                torch.zeros_like(p) if p.grad is None else p.grad / self.precision.loss_scale
                for p in self.split.own(task)
            ]
            for task in members
        }
        self.zero_grad()
        return own

    def ascent(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> list[Tensor]:
        """The step of length ``rho`` along the gradients, normalised over all of them together."""
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm() + _TINY if gradients else 1.0
        return [gradient * (self.rho / norm) for gradient in gradients]

    def split_row(self, row: Tensor) -> list[Tensor]:
        """A row as one tensor per shared parameter."""
        shared = self.split.shared
        return [part.view_as(p).float() for p, part in zip(shared.parameters, row.split(shared.sizes))]

    def perturbed_rows(
        self,
        batch: StepBatch,
        members: Sequence[str],
        directions: Sequence[Sequence[Tensor]],
        weights: dict[str, float],
    ) -> tuple[list[str], Tensor]:
        """Each task's gradient with the shared and its own parameters moved; the others' heads stay where they are.

        The own parameters' gradients are left in ``.grad``.
        """
        taken: list[str] = []
        rows: list[Tensor] = []
        for task, direction in zip(members, directions):
            with self.moved([*self.split.shared.parameters, *self.split.own(task)], direction):
                usable = task in self.usable_tasks(batch.measure([task]))
                if not usable:
                    batch.release()
                    continue
                rows.append(self.rows(batch, [task], weights)[0])
                taken.append(task)
        return taken, torch.stack(rows) if rows else torch.empty(0)


@OPTIM_WRAPPERS.register_module()
class SharpnessAwareOptimWrapper(_PerturbedOptimWrapper):
    r"""F-MTL (Phan et al., "Beyond Losses Reweighting: Empowering Multi-Task Learning via the Generalization
    Perspective", ICCV 2025, arXiv 2211.13723): 1 + K forwards and 2 K backwards per batch.

    For each task the shared and its own parameters are moved together to a worse point nearby,
    :math:`\epsilon_k = \rho g_k / \|g_k\|` (the two sets with norms of their own), and the gradient is taken there.
    The loss part and the flat part, ``G_flat = G_sam - G_loss``, are aggregated separately and added. A task's own
    parameters get its gradient at the moved point.

    As in the authors' program there is one ``rho`` for both sets; all perturbations follow the gradients averaged over
    ranks. Weights come back from a copy, bit by bit, where the program subtracts.

    Args:
        optimizer: The optimizer that is stepped.
        aggregator: Config of the aggregator that both parts go through; None adds them up.
        rho: Length of the perturbation.
        adaptive: Scale it by the weights as ASAM does, :math:`\epsilon = \rho\, p^2 g / \||p| g\|`; the program's
            setting, together with a ``rho`` of its own (3e-4 for Cityscapes).
        **kwargs: See :class:`GradientAggregationOptimWrapper`.

    Raises:
        ValueError: If ``rho`` is not positive, or ``interval`` is not 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        aggregator: dict[str, Any] | None = None,
        rho: float = 0.05,
        adaptive: bool = False,
        **kwargs: Any,
    ) -> None:
        # Methods with state keep one for each part.
        self.flat_aggregator = build_part(AGGREGATORS, aggregator or dict(type='Sum'), 'aggregator')
        self.adaptive = bool(adaptive)
        super().__init__(optimizer, aggregator, rho, **kwargs)

    @property
    def method_name(self) -> str:
        """``f_mtl``, and the aggregator if it is not the plain sum."""
        name = type(self.aggregator).__name__
        return 'f_mtl' if name == 'Sum' else f'f_mtl+{name}'

    def cost_per_batch(self) -> StepCost:
        """1 + K forwards, 2 K backwards."""
        tasks = len(self.task_names) if self.task_names else 1
        return StepCost(1 + tasks, 2 * tasks, 1)

    def ascent(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> list[Tensor]:
        """As the base, or scaled by the weights."""
        if not self.adaptive or not gradients:
            return super().ascent(parameters, gradients)
        scaled = [p.detach().abs() * g for p, g in zip(parameters, gradients)]
        norm = torch.stack([each.norm() for each in scaled]).norm() + _TINY
        return [p.detach().square() * g * (self.rho / norm) for p, g in zip(parameters, gradients)]

    def _step_tasks(self, batch: StepBatch) -> None:
        self.weighting.begin_step(self.generator)
        measured = batch.measure()
        members = self.usable_tasks(measured)
        if not members:
            batch.release()
            return
        loss_weights = task_weights(self.weighting, measured, self.task_names)
        rows = self.rows(batch, members, loss_weights)
        finite = self.finite_rows(members, rows)
        if finite:
            rows = rows[[members.index(task) for task in finite]]
            self._write(batch, finite, rows, loss_weights, measured)
        moved = self.step()
        self.zero_grad()
        self.num_steps += 1
        self.advance_weighting(batch, measured, moved)

    def _write(
        self, batch: StepBatch, members: list[str], rows: Tensor, weights: dict[str, float], measured: Measurement
    ) -> None:
        own = self.take_own_gradients(members)
        shared = self.split.shared.parameters
        directions = [
            [*self.ascent(shared, self.split_row(row)), *self.ascent(self.split.own(task), own[task])]
            for task, row in zip(members, rows)
        ]
        taken, moved_rows = self.perturbed_rows(batch, members, directions, weights)
        finite = self.finite_rows(taken, moved_rows) if taken else []
        if not finite:
            return
        rows = rows[[members.index(task) for task in finite]]
        flat = moved_rows[[taken.index(task) for task in finite]] - rows
        update = self.combine(self.aggregator, finite, rows, weights, measured)
        self.write_shared(update + self.combine(self.flat_aggregator, finite, flat, weights, measured))

    def _bind(self) -> None:
        super()._bind()
        self.flat_aggregator.bind(self.task_names)

    def _layout_changed(self) -> None:
        super()._layout_changed()
        self._restart(self.flat_aggregator)

    def strategy_state(self) -> dict[str, Any]:
        """As the base, with the flat part's aggregator."""
        return dict(**super().strategy_state(), flat_aggregator=self.flat_aggregator.state_dict())

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        super().load_strategy_state(state)
        self.flat_aggregator.load_state_dict(state['flat_aggregator'])


@OPTIM_WRAPPERS.register_module()
class SAMOOptimWrapper(_PerturbedOptimWrapper):
    r"""SAMO (Ban et al., ICCV 2025, arXiv 2507.07883): 1 + 3 K forwards and 1 + K backwards per batch.

    The perturbation mixes the gradient :math:`\bar g` of the mean loss with an estimate of each task's own,
    :math:`\epsilon_k \propto (1 - \beta) \bar g + \beta \hat g_k`, from two forwards without graph along a random
    direction z: :math:`\hat g_k = (L_k(\theta + \mu z) - L_k(\theta - \mu z)) / (2 \mu)\, z`. The gradients at the
    perturbed points then go through any aggregator. A task's own parameters are perturbed along their gradient of the
    mean loss and get their gradient at the perturbed point.

    The authors' program measures in eval mode on a deep copy per task and reseeds torch's global generator in every
    step; here z comes from the private generator, and the measurements run like every other forward.

    Args:
        optimizer: The optimizer that is stepped.
        aggregator: Config of the aggregator; None adds the gradients up.
        rho: Length of the perturbation (0.001 in the authors' scripts).
        beta: Share of the task's own estimate (0.5 in the authors' scripts).
        mu: Step of the two-point estimate.
        layerwise: Give each tensor of the estimate the norm that :math:`\bar g` has there, as the paper does (switched
            off in the program's NYUv2 trainer).
        **kwargs: See :class:`GradientAggregationOptimWrapper`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        aggregator: dict[str, Any] | None = None,
        rho: float = 0.001,
        beta: float = 0.5,
        mu: float = 0.01,
        layerwise: bool = True,
        **kwargs: Any,
    ) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f'beta must lie in [0, 1], but got {beta!r}')
        if not mu > 0:
            raise ValueError(f'mu must be > 0, but got {mu!r}')
        self.beta, self.mu, self.layerwise = float(beta), float(mu), bool(layerwise)
        super().__init__(optimizer, aggregator, rho, **kwargs)

    @property
    def method_name(self) -> str:
        """``samo``, and the aggregator if it is not the plain sum."""
        name = type(self.aggregator).__name__
        return 'samo' if name == 'Sum' else f'samo+{name}'

    def cost_per_batch(self) -> StepCost:
        """1 + K forwards with graph, 2 K without, 1 + K backwards."""
        tasks = len(self.task_names) if self.task_names else 1
        return StepCost(1 + tasks, 1 + tasks, 1, 2 * tasks)

    def _step_tasks(self, batch: StepBatch) -> None:
        self.weighting.begin_step(self.generator)
        measured = batch.measure()
        members = self.usable_tasks(measured)
        if not members:
            batch.release()
            return
        weights = task_weights(self.weighting, measured, self.task_names)
        mean = self._mean_gradient(batch, members, weights)
        if not all_finite([p.grad for p in self._trainable() if p.grad is not None]):
            # The tasks cannot be told apart in a mean, so the step is skipped: by the scaler, or here and counted.
            self.step()
            self.zero_grad()
            return
        own = self.take_own_gradients(members)
        directions = []
        for task in members:
            estimate = self._estimate(batch, task, mean)
            mixed = [(1 - self.beta) * g + self.beta * e for g, e in zip(mean, estimate)]
            shared = self.ascent(self.split.shared.parameters, mixed)
            directions.append([*shared, *self.ascent(self.split.own(task), own[task])])
        taken, rows = self.perturbed_rows(batch, members, directions, weights)
        finite = self.finite_rows(taken, rows) if taken else []
        if finite:
            rows = rows[[taken.index(task) for task in finite]]
            self.write_shared(self.combine(self.aggregator, finite, rows, weights, measured))
        moved = self.step()
        self.zero_grad()
        self.num_steps += 1
        self.advance_weighting(batch, measured, moved)

    def _mean_gradient(self, batch: StepBatch, members: list[str], weights: dict[str, float]) -> list[Tensor]:
        """Gradient of the mean loss: one tensor per shared parameter; the own parts are left in ``.grad``."""
        share = {task: weights[task] / len(members) for task in members}
        for shares in batch.shares(members):
            self.learn_parameters(members, shares)
            if shares:
                total = sum(loss * share[task] for task, loss in shares.items())
                self.precision.scale(total).backward()
        self.reducer.sum_gradients(self._trainable())
        return [
            torch.zeros_like(p) if p.grad is None else p.grad / self.precision.loss_scale
            for p in self.split.shared.parameters
        ]

    def _estimate(self, batch: StepBatch, task: str, mean: Sequence[Tensor]) -> list[Tensor]:
        """Two-point estimate of the gradient of one task's loss."""
        shared = self.split.shared.parameters
        noise = [torch.randn(p.shape, generator=self.generator).to(p) for p in shared]
        values = []
        for sign in (1, -1):
            with self.moved(shared, [z * (sign * self.mu) for z in noise]):
                losses = batch.measure((), grad=False).losses
            values.append(losses[self.task_names.index(task)])
        slope = torch.nan_to_num((values[0] - values[1]) / (2 * self.mu), nan=0.0).item()
        estimate = [z * slope for z in noise]
        if not self.layerwise:
            return estimate
        return [e * (g.norm() / (e.norm() + _TINY)) for e, g in zip(estimate, mean)]
