"""F-MTL: each task's gradient at its own worst nearby point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.methods.catalogue import StepCost
from mtl_plugins.registry import AGGREGATORS, OPTIM_WRAPPERS

from ..methods import build_part
from ..step.batch import Measurement, StepBatch
from ..step.kept_columns import KeptColumns
from .perturbation import TINY, PerturbedOptimWrapper


@OPTIM_WRAPPERS.register_module()
class SharpnessAwareOptimWrapper(PerturbedOptimWrapper):
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
        self.kept_flat = KeptColumns(self.flat_aggregator.buffer)
        self.adaptive = bool(adaptive)
        super().__init__(optimizer, aggregator, rho, **kwargs)

    def cost_per_batch(self) -> StepCost:
        """1 + K forwards, 2 K backwards."""
        tasks = len(self.task_names) if self.task_names else 1
        return StepCost(1 + tasks, 2 * tasks, 1)

    def ascent(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> list[Tensor]:
        """As the base, or scaled by the weights."""
        if not self.adaptive or not gradients:
            return super().ascent(parameters, gradients)
        scaled = [p.detach().abs() * g for p, g in zip(parameters, gradients)]
        norm = torch.stack([each.norm() for each in scaled]).norm() + TINY
        return [p.detach().square() * g * (self.rho / norm) for p, g in zip(parameters, gradients)]

    def _step_tasks(self, batch: StepBatch) -> None:
        measured, members, loss_weights = self.begin(batch)
        if not members:
            return
        rows = self.rows(batch, members, loss_weights)
        finite = self.finite_rows(batch, members, rows)
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
        finite = self.finite_rows(batch, taken, moved_rows) if taken else []
        if not finite:
            return
        rows = rows[[members.index(task) for task in finite]]
        flat = moved_rows[[taken.index(task) for task in finite]] - rows
        update = self.combine(self.aggregator, finite, rows, weights, measured)
        self.write_shared(update + self.combine(self.flat_aggregator, finite, flat, weights, measured))

    def _bind(self) -> None:
        super()._bind()
        self.flat_aggregator.bind(self.task_names)

    def _columns_changed(self) -> None:
        super()._columns_changed()
        self.kept_flat.fit(self.split.columns)

    def strategy_state(self) -> dict[str, Any]:
        """As the base, with the flat part's aggregator."""
        flat = dict(flat_aggregator=self.flat_aggregator.state_dict(), kept_flat=self.kept_flat.state_dict())
        return dict(**super().strategy_state(), **flat)

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        super().load_strategy_state(state)
        self.flat_aggregator.load_state_dict(state['flat_aggregator'])
        self.kept_flat.load_state_dict(state.get('kept_flat'))
