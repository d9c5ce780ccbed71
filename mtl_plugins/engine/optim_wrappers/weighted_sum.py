"""The weighted sum of the task losses: ordinary training, and every loss-weighting method."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch.optim import Optimizer

from mtl_plugins.methods.catalogue import StepCost
from mtl_plugins.registry import OPTIM_WRAPPERS, WEIGHTINGS

from ..methods import build_part
from ..step_batch import Measurement, StepBatch
from .base import StepOptimWrapper


@OPTIM_WRAPPERS.register_module()
class MultiTaskOptimWrapper(StepOptimWrapper):
    """One forward, one backward of ``sum_k w_k L_k``, one step.

    With equal weights it moves the weights exactly as MMEngine's ``OptimWrapper`` does, bit for bit.

    Args:
        optimizer: The optimizer that is stepped.
        weighting: Config of the loss weighting.
        passes: How often the whole step is repeated on the same batch; the baseline that costs as much as STGU with
            ``passes`` groups.
        **kwargs: See :class:`mtl_plugins.engine.optim_wrappers.base.StepOptimWrapper`.

    Raises:
        ValueError: If ``passes`` is not a positive integer.
    """

    def __init__(
        self, optimizer: Optimizer, weighting: dict[str, Any] | None = None, passes: int = 1, **kwargs: Any
    ) -> None:
        if not isinstance(passes, int) or passes < 1:
            raise ValueError(f'passes must be an integer >= 1, but got {passes!r}')
        self.weighting = build_part(WEIGHTINGS, weighting or dict(type='EqualWeighting'), 'weighting')
        self.passes = passes
        super().__init__(optimizer, **kwargs)

    @property
    def method_name(self) -> str:
        """``'gd'`` for constant weights, else the name of the weighting."""
        name = type(self.weighting).__name__
        return 'gd' if name == 'EqualWeighting' else name

    def cost_per_batch(self) -> StepCost:
        """``passes`` forwards and backwards; a weighting that wants the losses after the step adds a forward."""
        probes = self.passes if self.weighting.needs_after_step else 0
        return StepCost(self.passes, self.passes, self.passes, Fraction(probes))

    def _bind(self) -> None:
        self.weighting.bind(self.task_names)

    def _step_tasks(self, batch: StepBatch) -> None:
        for _ in range(self.passes):
            measured = batch.measure()
            members = [task for task, usable in zip(self.task_names, measured.usable.tolist()) if usable]
            if not members:
                batch.release()
                continue
            batch.backward(members, task_weights(self.weighting, measured, self.task_names))
            self.finish_step()
            after = batch.measure((), grad=False).losses if self.weighting.needs_after_step else None
            self.weighting.after_step(measured.losses, after, measured.usable)

    def strategy_state(self) -> dict[str, Any]:
        """The weighting's state."""
        return dict(weighting=self.weighting.state_dict())

    def load_strategy_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`strategy_state`."""
        self.weighting.load_state_dict(state['weighting'])


def task_weights(weighting: Any, measured: Measurement, tasks: tuple[str, ...]) -> dict[str, float]:
    """The weights of the usable tasks as ``{task: weight}``."""
    losses = torch.nan_to_num(measured.losses, nan=0.0)
    return dict(zip(tasks, weighting.weights(losses, measured.usable).tolist()))
