"""SAMO: sharpness-aware steps whose local part costs forwards only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.registry import OPTIM_WRAPPERS
from mtl_plugins.utils.argument_types import Positive, Range

from ..step.batch import StepBatch
from ..step.gradients import SharedLayout
from ..step.nonfinite import all_finite
from ..step.task_rows import TaskRows
from ..step_cost import StepCost, StepSetup
from .perturbation import TINY, PerturbedOptimWrapper


@OPTIM_WRAPPERS.register_module()
class SAMOOptimWrapper(PerturbedOptimWrapper):
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
        **kwargs: ``rescale``, see :class:`.aggregation.GradientAggregationOptimWrapper`, and those of
            :class:`.rows.TaskGradientOptimWrapper`.

    Raises:
        ValueError: If an argument is out of range.
    """

    facts = MethodFacts(
        'Lightweight sharpness-aware optimization, on CAGrad',
        paper='Ban et al., ICCV 2025',
        arxiv='2507.07883',
        verified='formula; no vectors',
        one_task='it steps with the gradient at a worse point nearby, as sharpness-aware training of one task does',
    )

    def __init__(
        self,
        optimizer: Optimizer,
        aggregator: dict[str, Any] | None = None,
        rho: Positive = 0.001,
        beta: Annotated[float, Range(0, 1)] = 0.5,
        mu: Positive = 0.01,
        layerwise: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, aggregator, rho, **kwargs)
        self.beta, self.mu, self.layerwise = float(beta), float(mu), layerwise

    @classmethod
    def cost(cls, setup: StepSetup) -> StepCost:
        """1 + K forwards with graph, 2 K without, 1 + K backwards."""
        passes = 1 + setup.num_tasks
        return StepCost(passes, passes, 1, super().cost(setup).probes + 2 * setup.num_tasks)

    def set_gradients(self, batch: StepBatch, weights: dict[str, float], losses: Tensor) -> None:
        """The gradients at the perturbed points, combined."""
        members = list(weights)
        mean = self._mean_gradient(batch, weights)
        if not all_finite([p.grad for p in self._trainable() if p.grad is not None]):
            # The tasks cannot be told apart in a mean, so the step is skipped: by the scaler, or by step() and counted.
            return
        own = self.take_own_gradients(members)
        directions = []
        for task in members:
            estimate = self._estimate(batch, task, mean)
            mixed = [(1 - self.beta) * g + self.beta * e for g, e in zip(mean, estimate)]
            shared = self.ascent(self.split.shared.parameters, mixed)
            directions.append([*shared, *self.ascent(self.split.own(task), own[task])])
        rows = self.perturbed_rows(batch, members, directions, weights)
        if rows.tasks:
            self.write_shared(self.combiner.combine(rows, losses, self.split.columns))

    def _mean_gradient(self, batch: StepBatch, weights: dict[str, float]) -> list[Tensor]:
        """Gradient of the mean loss: one tensor per shared parameter; the own parts are left in ``.grad``."""
        share = {task: weight / len(weights) for task, weight in weights.items()}
        news = TaskRows.zeros(weights, SharedLayout([]), self._device)
        for shares in batch.shares(weights):
            self.learn_parameters(weights, shares)
            # A sum of losses does not tell whose gradient arrives; what nobody reaches costs nothing to ask for.
            news.add(dict(shares), others=self.split.others, keep=True)
            if shares:
                total = sum(loss * share[task] for task, loss in shares.items())
                self.precision.scale(total).backward()
        if self.reducer.sum_gradients(self._trainable(), any(news.found.values())):
            self.split.learn(news.found)
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
        return [e * (g.norm() / (e.norm() + TINY)) for e, g in zip(estimate, mean)]
