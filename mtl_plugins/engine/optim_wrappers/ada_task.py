"""AdaTask's step: the gradients of the tasks reach the optimizer one by one."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.errors import UserError, UserTypeError
from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.registry import OPTIM_WRAPPERS

from ..optimizers import AdaTask
from ..optimizers.spread_state import is_spread
from ..step.batch import StepBatch
from ..step.clipping import check_clipping
from .rows import TaskGradientOptimWrapper


@OPTIM_WRAPPERS.register_module()
class AdaTaskOptimWrapper(TaskGradientOptimWrapper):
    """One forward and K backwards per batch; :class:`~mtl_plugins.engine.optimizers.AdaTask` steps with all K rows.

    ``clip_grad`` of type ``'norm'`` acts on the summed gradient, which is what ordinary training would step with; every
    task's gradient is then scaled by the same factor.

    Args:
        optimizer: An ``AdaTask`` optimizer: ``optimizer=dict(type='AdaTask', base='Adam')``.
        **kwargs: See :class:`mtl_plugins.engine.optim_wrappers.rows.TaskGradientOptimWrapper`.

    Raises:
        TypeError: If the optimizer is another.
        ValueError: If ``clip_grad`` is of type ``'value'``, which has no meaning for several gradients.
    """

    facts = MethodFacts(
        'Adaptive optimizer with accumulators per task',
        paper='Yang et al., AAAI 2023',
        arxiv='2211.15055',
        verified="Adam: 5 steps of the authors' program; each base with one task: torch's optimizer",
    )
    method_name = 'ada_task'

    def __init__(self, optimizer: Optimizer, **kwargs: Any) -> None:
        if is_spread(optimizer):
            raise UserTypeError(
                f'AdaTask steps with one gradient per task, which {type(optimizer).__name__} does not hand on: use '
                'optimizer=dict(type="mtl_plugins.AdaTask", base="Adam"), whose state every process holds in full'
            )
        if not isinstance(optimizer, AdaTask):
            raise UserTypeError(
                'AdaTaskOptimWrapper needs optimizer=dict(type="mtl_plugins.AdaTask", base="Adam"), '
                f'but got {type(optimizer).__name__}'
            )
        if (check_clipping(kwargs.get('clip_grad')) or {}).get('type', 'norm') != 'norm':
            raise UserError("AdaTaskOptimWrapper: clip_grad must be of type 'norm'")
        super().__init__(optimizer, **kwargs)

    @property
    def begins_with_rows(self) -> bool:
        """Always."""
        return True

    def set_gradients(self, batch: StepBatch, weights: dict[str, float], losses: Tensor) -> dict[str, Any]:
        """The sum as gradient, and the rows as arguments of the optimizer's step."""
        rows = self.finite_rows(batch, self.rows(batch, weights))
        matrix = rows.matrix.float()
        if rows.tasks:
            # What the scaler checks, clipping measures, and the optimizer leaves alone.
            self.write_shared(matrix.sum(0))
        self._views = {p: part.reshape(len(part), *p.shape) for p, part in rows.layout.parts(matrix).items()}
        return dict(
            task_grads=self._views,
            task_ids=[self.task_names.index(task) for task in rows.tasks],
            num_tasks=len(self.task_names),
            former_owners={p: self.task_names.index(task) for p, task in self.split.former_owners.items()},
        )

    def step(self, **kwargs: Any) -> bool:
        """As the base; afterwards the rows are let go, so that the next batch's do not lie beside them."""
        try:
            return super().step(**kwargs)
        finally:
            self._views = {}

    def _clip_grad(self) -> None:
        before = _norm(self._views)
        super()._clip_grad()
        factor = _norm(self._views) / before.clamp_min(torch.finfo(before.dtype).tiny)
        for gradients in self._views.values():
            gradients *= factor


def _norm(parameters: Collection[nn.Parameter]) -> Tensor:
    if not parameters:
        return torch.zeros(())
    return torch.stack([parameter.grad.norm() for parameter in parameters]).norm()
