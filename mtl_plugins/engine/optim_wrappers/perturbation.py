"""What sharpness-aware strategies share: moving weights to a worse point nearby, and bringing them back bit by bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.errors import UserError
from mtl_plugins.utils.argument_types import Positive

from ..methods import DEFAULT_PARTS
from ..step.batch import StepBatch
from ..step.restored import restored
from ..step.row_shards import Shard
from ..step.task_rows import TaskRows
from .combining import Rescale
from .rows import TaskGradientOptimWrapper

TINY = 1e-12
_ONLY = dict(interval=1, heads='sum', level='parameters')
"""What configs may spell out although there is no choice."""


class PerturbedOptimWrapper(TaskGradientOptimWrapper):
    """What both methods share: ``rho``, moving weights and bringing them back bit by bit."""

    def __init__(
        self,
        optimizer: Optimizer,
        aggregator: dict[str, Any] | None = None,
        rho: Positive = 0.05,
        rescale: Rescale = 'sum',
        normalise: str | None = None,
        **kwargs: Any,
    ) -> None:
        for name, only in _ONLY.items():
            if kwargs.pop(name, only) != only:
                raise UserError(f'sharpness-aware methods have no {name}: leave it out, or use {name}={only!r}')
        super().__init__(optimizer, **kwargs)
        self.rho = float(rho)
        self.combiner = self.make_combiner(aggregator or DEFAULT_PARTS['aggregator'], rescale, normalise=normalise)

    @property
    def takes_shards(self) -> bool:
        """Whether each rank holds its share of the rows' columns only."""
        return self.combiner.takes_shards

    @contextmanager
    def moved(self, parameters: Sequence[nn.Parameter], directions: Sequence[Tensor]) -> Iterator[None]:
        """Add ``directions`` to ``parameters`` inside the context; afterwards the former values are copied back."""
        with restored(parameters):
            with torch.no_grad():
                for parameter, direction in zip(parameters, directions):
                    parameter.add_(direction)
            yield

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
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm() + TINY if gradients else 1.0
        return [gradient * (self.rho / norm) for gradient in gradients]

    def perturbed_rows(
        self,
        batch: StepBatch,
        members: Sequence[str],
        directions: Iterable[Sequence[Tensor]],
        weights: dict[str, float],
    ) -> TaskRows:
        """Each task's gradient with the shared and its own parameters moved; the others' heads stay where they are.

        Tasks whose loss or gradient is not finite there are left out.

        The own parameters' gradients are left in ``.grad``. Each direction is asked for once the task before is done.
        """
        taken: list[str] = []
        shared = self.split.shared
        shard = Shard(shared.width, self.reducer) if self.takes_shards else None
        width = shared.width if shard is None else shard.stop - shard.start
        matrix = torch.empty(len(members), width, dtype=self.row_dtype, device=self._device)
        self.settled = True
        try:
            for task, direction in zip(members, directions):
                with self.moved([*shared.parameters, *self.split.own(task)], direction):
                    if task not in batch.measure([task]).members:
                        batch.release()
                        continue
                    matrix[len(taken)] = self.rows(batch, {task: weights[task]}, shard is not None).matrix[0]
                    taken.append(task)
        finally:
            self.settled = False
        return self.finite_rows(batch, TaskRows(taken, matrix[: len(taken)], shared, shard))
