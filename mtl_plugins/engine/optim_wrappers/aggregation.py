"""Gradient aggregation: one gradient per task on the shared parameters, combined into one update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.errors import UserError
from mtl_plugins.methods.aggregation import Aggregator
from mtl_plugins.methods.aggregation.rows import gramian, products, symmetric, weighted_sum
from mtl_plugins.registry import OPTIM_WRAPPERS
from mtl_plugins.utils.argument_types import Count

from ..step.batch import StepBatch, sum_of
from ..step.block_products import BlockProducts
from ..step.feature_gradients import FeatureWatch
from ..step.gradients import Found, SharedLayout, accumulate
from ..step.task_rows import TaskRows
from ..step_cost import StepCost, StepSetup
from .combining import Heads, Rescale
from .rows import TaskGradientOptimWrapper

_LARGE = 1e37
"""Far below what float32 can hold."""


@OPTIM_WRAPPERS.register_module()
class GradientAggregationOptimWrapper(TaskGradientOptimWrapper):
    """One forward and K backwards per batch; an aggregator turns the K rows into the update of the shared parameters.

    Args:
        optimizer: The optimizer that is stepped.
        aggregator: Config of the aggregator.
        interval: Steps between two solutions of a Gramian method; in between its last weights are used, which costs one
            backward over the shared part instead of K (published as PSMGD for MGDA: ``aggregator=dict(type='MGDA')``
            with ``interval=n``). A batch with a task that has no weight yet is solved anew, and
            so is the one after a gradient of exactly zero.
        rescale: ``'sum'`` brings methods whose equal weights add up to one to the scale of the summed loss (times the
            number of present tasks), so that methods compare at one learning rate; None leaves each method's own scale.
        level: ``'parameters'``: exact, K backwards through the shared part. ``'features'``: the weights come from the
            gradients at the shared representation, K passes through the heads and one backward in all; an
            approximation that ignores the Jacobian of the backbone, for the methods that their papers define so.
        features: Module whose output is that representation, with ``level='features'``.
        heads: ``'sum'``: a task's own parameters get its unweighted gradient; ``'weighted'``: times the task's weight
            (methods that weight their rows); None takes what the method's paper does.
        normalise: What each row is divided by before the aggregator sees it: ``'l2'``, its length, ``'loss'``, the loss
            of its task, or ``'loss+'``, both; None for nothing. See
            :meth:`mtl_plugins.methods.aggregation.Aggregator.normalise_rows`.
        memory: ``'rows'`` holds the K gradients. ``'gramian'``, for methods whose weights follow from the products of
            the gradients, does not: all tasks go back through one block of the model after another, each block's
            gradients enter the products and are dropped, and a backward of the weighted sum makes the update. It costs
            that one backward more, and holds the graph to its end; beside ordinary training it needs memory for K
            times the largest block's parameters and the tensors at its ends. One micro-batch per step.
        **kwargs: ``weighting`` (for IMTL, whose losses IMTL-L scales first), ``row_dtype``, and those of
            :class:`mtl_plugins.engine.optim_wrappers.base.StepOptimWrapper`.

    Raises:
        ValueError: If an argument is out of range or does not suit the aggregator.

    Example:
        >>> import torch
        >>> from mtl_plugins.engine.optim_wrappers import GradientAggregationOptimWrapper
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> wrapper = GradientAggregationOptimWrapper(torch.optim.SGD([x], lr=0.1), aggregator=dict(type='PCGrad'))
        >>> def losses(active=None, *, grad=True):
        ...     return dict(norm=x.square().sum(), first=-3 * x[0])
        >>> wrapper.step_tasks(losses)  # a model of MMEngine does this in its train_step
        >>> x.data
        tensor([1.2400, 1.4800])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        aggregator: dict[str, Any],
        interval: Count = 1,
        rescale: Rescale = 'sum',
        level: Literal['parameters', 'features'] = 'parameters',
        features: str = 'backbone',
        heads: Heads = None,
        normalise: str | None = None,
        memory: Literal['rows', 'gramian'] = 'rows',
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, **kwargs)
        self.combiner = self.make_combiner(aggregator, rescale, heads, normalise)
        self.aggregator = self.combiner.aggregator
        name = type(self.aggregator).__name__
        if interval > 1 and not self.aggregator.gramian_only:
            raise UserError(f'interval={interval}: {name} needs the gradients themselves in every step; use interval=1')
        if level == 'features' and not (self.aggregator.features_level and self.aggregator.gramian_only):
            raise UserError(f"level='features': {name} is not defined by products of feature gradients")
        if level == 'features' and self._accumulative_counts != 1:
            raise UserError("level='features' needs the whole batch at once: use accumulative_counts=1")
        self.watch = FeatureWatch(features) if level == 'features' else None
        if memory == 'gramian':
            self._refuse_rows_or_more(name)
        self.blocks = BlockProducts(self.reducer) if memory == 'gramian' else None
        self.interval = interval
        self.num_steps = 0
        self._look_again = False

    def _refuse_rows_or_more(self, name: str) -> None:
        if not self.aggregator.gramian_only:
            raise UserError(f"memory='gramian': {name} needs the gradients themselves; use memory='rows'")
        if self.watch is not None:
            raise UserError("memory='gramian': level='features' holds no gradients of parameters; use memory='rows'")
        if self._accumulative_counts != 1:
            raise UserError(
                "memory='gramian' needs the whole batch at once, because the products of summed gradients are not the "
                "sum of products: use accumulative_counts=1 or memory='rows'"
            )
        if self.row_dtype != torch.float32:
            raise UserError("memory='gramian' keeps no rows that row_dtype could halve: leave it out")

    def cost_per_batch(self) -> StepCost:
        """One forward, K backwards over the shared part (on average over the interval), one more without rows."""
        tasks = len(self.task_names or '?') if self.watch is None else 1
        tasks += self.blocks is not None
        passes = round(Fraction(tasks + self.interval - 1, self.interval))
        return self.cost(StepSetup(passes, weighting=self.weighting))

    # ------------------------------------------------------------------ the step
    def watching(self) -> AbstractContextManager[None]:
        """With ``level='features'``, what remembers the representation of this forward."""
        return super().watching() if self.watch is None else self.watch.watch(self.policy.model)

    @property
    def begins_with_rows(self) -> bool:
        """Whether the next step is solved, and from gradients of parameters."""
        return self.watch is None and self.blocks is None and self.num_steps % self.interval == 0

    def set_gradients(self, batch: StepBatch, weights: dict[str, float], losses: Tensor) -> None:
        """Solve, or weight as at the last solution."""
        if self.num_steps % self.interval == 0 or not weights.keys() <= self.combiner.weights.keys():
            if self.watch is not None:
                self._solve_at_features(batch, weights, losses)
            elif self.blocks is not None:
                self._solve_by_blocks(batch, weights, losses)
            else:
                self._solve(batch, weights, losses)
        else:
            self._reuse(batch, weights)
        if self.watch is not None:
            self.watch.tensors = []
        batch.weights = {task: weight * self.combiner.weights.get(task, math.nan) for task, weight in weights.items()}
        self.num_steps += 1
        if self._look_again:
            self._look_again, self.combiner.weights = False, {}

    def _solve(self, batch: StepBatch, weights: dict[str, float], losses: Tensor) -> None:
        rows, gram = self.rows(batch, weights, self.combiner.takes_shards), None
        if self.aggregator.gramian_only:
            gram = products(rows.matrix)
            gram = gram if rows.shard is None else rows.shard.sum(gram, gram.device)
            members, gram = self._finite_products(batch, rows.tasks, gram)
            rows = rows.select(members)
        else:
            rows = self.finite_rows(batch, rows)
        if not rows.tasks:
            return
        self.write_shared(self.combiner.combine(rows, losses, self.split.columns, gram))
        self._free_heads(batch.zero_rows)
        self._scale_heads()
        if rows.shard is None and self.aggregator.gramian_only and not self.combiner.head_factors:
            # No entry of the update is larger than this, and the heads' gradients are finite: no check, no read.
            reach = sum(abs(self.combiner.weights[task]) * self.lengths[task] for task in rows.tasks)
            self.late.finite = True if reach < _LARGE else None

    def _finite_products(self, batch: StepBatch, tasks: list[str], gram: Tensor) -> tuple[list[str], Tensor]:
        """As :meth:`finite_rows`, from products of rows: the tasks that are left, and theirs, on the CPU.

        They come with the losses, where those are due, in one read. Float64 has the square of every float32 number.
        """
        flags = self.finite_own(tasks, torch.isfinite(gram.diagonal()))
        numbers = self._read(batch, torch.cat([flags.to(gram), gram.reshape(-1)]))
        finite, gram = numbers[: len(tasks)], torch.tensor(numbers[len(tasks) :], dtype=gram.dtype)
        gram = symmetric(gram.view(len(tasks), -1))
        squares = gram.diagonal().tolist()
        batch.zero_rows = [task for task, square in zip(tasks, squares) if square == 0]
        self.lengths = {task: math.sqrt(square) for task, square in zip(tasks, squares)}
        members = self.finite_tasks(tasks, [bool(each) for each in finite])
        kept = [tasks.index(task) for task in members]
        return members, gram[kept][:, kept]

    def _solve_by_blocks(self, batch: StepBatch, weights: dict[str, float], losses: Tensor) -> None:
        """Weights from products that are taken block by block, then one backward of the weighted sum."""
        members = list(weights)
        for shares in batch.shares(members, backwards=len(members) + 1):
            self.learn_parameters(members, shares)
            scaled = {task: self.precision.scale(shares.pop(task) * weights[task]) for task in list(shares)}
            gram, found = self.blocks.take(members, scaled, self.split, self._device)
        self._say_memory(4 * self.blocks.held, f' (blocks: {self.blocks.num_blocks})')
        if self.split.any_found(gram.new_zeros(1), found):
            gram += products(self.newly_shared(members, found, torch.zeros(0, device=self._device))[1])
        del found
        self.reducer.sum_gradients([parameter for task in members for parameter in self.split.own(task)])
        kept, gram = self._finite_products(batch, members, gram / self.precision.loss_scale**2)
        if not kept:
            return
        self.combiner.solve(kept, gram, losses, self._device)
        self._free_heads(batch.zero_rows)
        self._scale_heads()
        shared = self.split.shared.parameters
        parts = [scaled[task] * self.combiner.weights[task] for task in kept if task in scaled]
        if shared and parts:
            sum_of(parts).backward(inputs=shared)
        self._sum_gradients(shared)

    def _sum_gradients(self, parameters: Sequence[nn.Parameter], news: bool = False) -> bool:
        """As the reducer; a shared parameter that no task of this batch reaches then has zeros, as in rows."""
        news = self.reducer.sum_gradients(parameters, news)
        for parameter in self.split.shared.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return news

    def _free_heads(self, tasks: Sequence[str]) -> None:
        """Tasks without a gradient at the shared parameters get no weight, which says nothing about their own ones.

        Nor about a batch in which they have one again, so that the next is solved anew.
        """
        self._look_again = bool(tasks)
        factors = self.combiner.head_factors
        factors.update({task: 1.0 for task in tasks if factors.get(task) == 0})

    def _scale_heads(self) -> None:
        for task, factor in self.combiner.head_factors.items():
            for parameter in self.split.own(task):
                if parameter.grad is not None:
                    parameter.grad *= factor

    def _solve_at_features(self, batch: StepBatch, weights: dict[str, float], losses: Tensor) -> None:
        members = list(weights)
        rows = TaskRows.zeros(members, SharedLayout([]), self._device)
        for shares in batch.shares(members, keep=True):
            self.learn_parameters(members, shares)
            # The heads' own gradients and the backward from the features need no second pass through the heads, unless
            # a shared parameter also acts beside the features. The scaler's checks are left to the plain way.
            if not self.split.shared.parameters and not self.split.nobodys():
                self.watch.tensors = []  # nothing is shared that could be balanced
            one_pass = not self.precision.uses_scaler and self.watch.is_only_way(shares, self.split.shared.parameters)
            weighted = {task: loss * weights[task] for task, loss in shares.items()}
            if one_pass:
                # With its last reference each head's graph goes, once its gradients are taken.
                batch.release(backwards=1)
                shares.clear()
            if weighted:
                own = self.split.own if one_pass else lambda task: []
                rows = self.watch.rows(members, weighted, own, self.split.others)
        products = torch.cat([gramian(rows.matrix).reshape(-1), torch.zeros(1)]).to(self._device)
        news = self.split.any_found(products, rows.found)
        gram = products[:-1].view(len(members), len(members))
        added = self._learn_at_features(members, rows.found, one_pass) if news else {}
        finite = torch.isfinite(gram.diagonal())
        members, gram = self.without_bad(members, finite.tolist()), gram[finite][:, finite]
        if not members:
            batch.release()
            return
        rows = rows.select(members)
        solution = self.combiner.solve(members, gram, losses, self._device)
        batch.zero_rows = [task for task, square in zip(members, gram.diagonal().tolist()) if square == 0]
        self._free_heads(batch.zero_rows)
        if not one_pass:
            self._reuse(batch, {task: weights[task] for task in members})
            return
        for parameter, gradients in added.items():
            parameter.grad = None
            weighted = [g * self.combiner.weights[task] for task, g in gradients.items() if task in members]
            accumulate([parameter] * len(weighted), weighted)
        behind = [p for p in self.split.shared.parameters if p not in added]
        if rows.layout.parameters and behind:
            self.watch.backward(weighted_sum(rows.matrix, solution), behind)
        self._scale_heads()
        self._sum_gradients(self._trainable())

    def _learn_at_features(
        self, members: Sequence[str], found: Found, one_pass: bool
    ) -> dict[nn.Parameter, dict[str, Tensor]]:
        """Take note of what the heads' passes found; the tasks' gradients at parameters that are shared from now on."""
        before = {parameter: task for task in members for parameter in self.split.own(task)}
        self.split.learn(found)
        shared, added = set(self.split.shared.parameters), {}
        if not one_pass:
            return {}
        for task in members:
            gradients, mine = found.get(task, {}), self.split.own(task)
            accumulate(mine, [gradients.get(p) for p in mine])
            for parameter in gradients.keys() & shared:
                added.setdefault(parameter, {})[task] = gradients[parameter]
        for parameter, task in before.items():
            if parameter in shared and parameter.grad is not None:
                added.setdefault(parameter, {})[task] = parameter.grad
        return added

    def _reuse(self, batch: StepBatch, weights: dict[str, float]) -> None:
        """One backward of the losses weighted as at the last solution.

        Parameters that no task of this batch was seen to use count as shared; a further user of known ones shows at the
        next solution.
        """
        news = False
        for shares in batch.shares(weights):
            self.learn_parameters(weights, shares)
            losses = {task: self.precision.scale(loss * weights[task]) for task, loss in shares.items()}
            if not losses:
                continue
            own = [parameter for task in losses for parameter in self.split.own(task)]
            absent = [parameter for task in self.task_names if task not in losses for parameter in self.split.own(task)]
            shared, unknown = self.split.shared.parameters, [*self.split.nobodys(), *absent]
            if own:
                # Only the part of the graph that leads to the tasks' own parameters is walked here.
                total = sum_of(loss * self.combiner.head_factors.get(task, 1.0) for task, loss in losses.items())
                accumulate(own, torch.autograd.grad(total, own, retain_graph=True, allow_unused=True))
            if shared or unknown:
                total = sum_of(loss * self.combiner.weights[task] for task, loss in losses.items())
                gradients = torch.autograd.grad(total, [*shared, *unknown], allow_unused=True)
                accumulate([*shared, *unknown], gradients)
                news |= any(gradient is not None for gradient in gradients[len(shared) :])
        # Whose these are cannot be told in a sum of losses, so the next step is solved.
        self._look_again |= self._sum_gradients(self._trainable(), news)

    # ------------------------------------------------------------------ set-up, state
    def in_effect(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """As the base, with what the method's paper does with the heads."""
        usual = type(self.aggregator).head_weights is Aggregator.head_weights
        found = super().in_effect(settings)
        if usual and 'heads' in found and found['heads'] is None:
            found['heads'] = self.aggregator.heads
        return found

    def strategy_state(self) -> dict[str, Any]:
        """As the base, with the counter."""
        return dict(**super().strategy_state(), num_steps=self.num_steps)

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        super().load_strategy_state(state)
        self.num_steps = int(state['num_steps'])
