"""The training loops that are compared, each as one call per batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_plugins.engine import MultiTaskOptimWrapper, SelectiveTaskGroupOptimWrapper

from .workload import Workload


@dataclass(frozen=True)
class System:
    """A model with the loop that trains it.

    Attributes:
        name: ``'gd'``, ``'stgu'`` or ``'released'``.
        num_groups: M; 1 for gd.
        model: The model.
        optimizer: Its optimizer.
        step: Trains on the batch once.
    """

    name: str
    num_groups: int
    model: nn.Module
    optimizer: Optimizer
    step: Callable[[], Any]

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.name if self.name == 'gd' else f'{self.name} M={self.num_groups}'


class ReleasedLoop:
    """The loop of the authors' released program, stated anew for any model that returns a loss dict.

    For each group: a forward of all heads and all losses, all of them with graph; clear the gradients; backward of the
    group's losses; step; update the affinity map, reading each pair's loss from the device. Like the released program
    it keeps the losses, and with them the graphs of the idle heads, until the next forward has been made.

    Left out, all in favour of this loop: clustering, copying the batch to the device once per group, and running a
    single group twice. Gradients are cleared to None, which is what the same lines do since torch 2.0; with the zeros
    of torch 1.13 they would also step the idle heads.

    Args:
        model: ``model(**batch, mode='loss')`` gives ``{'<task>.loss': scalar}``.
        optimizer: Its optimizer.
        groups: The groups of tasks.
        decay: Share of a new value in the affinity map.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, groups: Sequence[Sequence[str]], decay: float = 1e-3
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.groups = [list(group) for group in groups]
        self.decay = decay
        self.affinity = {(s, t): 0.0 for s in model.tasks for t in model.tasks}
        self._random = random.Random(0)

    def step(self, batch: dict[str, Any], order: Sequence[Sequence[str]] | None = None) -> None:
        """Train on ``batch`` once, in the given or a random order of the groups."""
        data = self.model.data_preprocessor(batch, True)
        before = dict.fromkeys(self.model.tasks, -1.0)
        for group in order or self._random.sample(self.groups, len(self.groups)):
            out = self.model(**data, mode='loss')
            losses = {task: out[f'{task}.loss'] for task in self.model.tasks}
            self.optimizer.zero_grad()
            sum(losses[task] for task in group).backward()
            self.optimizer.step()
            self._update_affinity(group, before, losses)

    def _update_affinity(self, group: Sequence[str], before: dict[str, float], losses: dict[str, Tensor]) -> None:
        for source in group:
            for target in self.model.tasks:
                if before[target] <= 0:
                    continue
                gain = (1 - losses[target].item() / before[target]) / len(group)
                if target in group and target != source:
                    own = (1 - losses[source].item() / before[source]) / len(group)
                    gain = gain if gain * own >= 0 else -max(gain, own)
                elif target == source and gain < 0:
                    continue
                old = self.affinity[source, target]
                self.affinity[source, target] = (1 - self.decay) * old + self.decay * gain
        for task, loss in losses.items():
            before[task] = loss.item()


def build_optimizer(model: nn.Module) -> Optimizer:
    """The optimizer of the released program."""
    return torch.optim.Adam(model.parameters(), lr=2e-5, weight_decay=1e-6)


def build_gd(work: Workload, batch: dict[str, Any]) -> System:
    """Ordinary training: :class:`MultiTaskOptimWrapper`."""
    model = work.build_model()
    wrapper = MultiTaskOptimWrapper(build_optimizer(model), seed=0)
    return System('gd', 1, model, wrapper.optimizer, lambda: model.train_step(batch, wrapper))


def build_stgu(work: Workload, batch: dict[str, Any], num_groups: int, **kwargs: Any) -> System:
    """:class:`SelectiveTaskGroupOptimWrapper` with fixed groups and without probes."""
    model = work.build_model()
    options = dict(grouper=dict(type='Fixed', groups=work.groups(num_groups)), warmup_iters=0, probe_interval=0, seed=0)
    wrapper = SelectiveTaskGroupOptimWrapper(build_optimizer(model), **{**options, **kwargs})
    return System('stgu', num_groups, model, wrapper.optimizer, lambda: model.train_step(batch, wrapper))


def build_released(work: Workload, batch: dict[str, Any], num_groups: int) -> System:
    """:class:`ReleasedLoop`."""
    model = work.build_model()
    loop = ReleasedLoop(model, build_optimizer(model), work.groups(num_groups))
    return System('released', num_groups, model, loop.optimizer, lambda: loop.step(batch))


def build_all(work: Workload, batch: dict[str, Any]) -> list[System]:
    """All systems; each M's pair side by side."""
    systems = [build_gd(work, batch)]
    for num_groups in work.group_counts():
        systems += [build_stgu(work, batch, num_groups), build_released(work, batch, num_groups)]
    return systems
