"""The loss weighting of a strategy: how it is built, asked, and told that a step is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mtl_plugins.errors import UserError
from mtl_plugins.methods.weighting import Weighting
from mtl_plugins.registry import WEIGHTINGS

from ..methods import DEFAULT_PARTS, build_part
from ..step.batch import Measurement, StepBatch

if TYPE_CHECKING:
    from .base import StepOptimWrapper


def build_weighting(
    wrapper: StepOptimWrapper, cfg: dict[str, Any] | None, brings_grad_norms: bool = False
) -> Weighting:
    """The weighting of a strategy, which knows the tasks as soon as they are known.

    Args:
        wrapper: The strategy.
        cfg: Its config; None for equal weights.
        brings_grad_norms: Whether the strategy measures gradient norms before its backward.

    Raises:
        UserError: If the weighting asks for what the strategy does not do.
    """
    weighting = build_part(WEIGHTINGS, cfg or DEFAULT_PARTS['weighting'], 'weighting')
    if weighting.needs_grad_norms and not brings_grad_norms:
        raise UserError(
            f'{type(weighting).__name__} needs the gradient norms on the last shared layer before the one backward of '
            f'the weighted sum, which {type(wrapper).__name__} does not make: use '
            'type="mtl_plugins.MultiTaskOptimWrapper", or another weighting'
        )
    wrapper.when_tasks_are_known(weighting.bind)
    return weighting


def task_weights(weighting: Weighting, measured: Measurement) -> dict[str, float]:
    """The weights of the usable tasks as ``{task: weight}``."""
    losses = torch.nan_to_num(measured.losses, nan=0.0)
    return dict(zip(measured.tasks, weighting.weights(losses, measured.usable).tolist()))


def advance(weighting: Weighting, batch: StepBatch, measured: Measurement, moved: bool) -> None:
    """Tell a weighting that a step is over; a step that was skipped leaves its state alone."""
    if moved:
        after = batch.measure((), grad=False).losses if weighting.needs_after_step else None
        weighting.after_step(measured.losses, after, measured.usable)
