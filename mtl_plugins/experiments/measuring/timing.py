"""Times of several systems, taken in turn so that load on the machine falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer


class TrainingStep(Protocol):
    """A model with a way to train it.

    Attributes:
        label: Name in tables.
        model: The model.
        optimizer: Its optimizer.
        step: Trains on a batch once.
    """

    label: str
    model: nn.Module
    optimizer: Optimizer
    step: Callable[[], Any]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of two values or more."""
        low, median, high = statistics.quantiles(values, n=4, method='inclusive')
        return cls(median, low, high)

    def __str__(self) -> str:
        return f'{self.median:.2f} ({self.low:.2f}-{self.high:.2f})'


Times = dict[str, list[dict[str, float]]]
"""Per label of a system, the seconds of each round by clock."""


def time_systems(
    systems: Sequence[TrainingStep], rounds: int, warmup: int, advance: Callable[[], None] = lambda: None
) -> Times:
    """Step all systems ``rounds`` times in turn, every other round in reverse order.

    Args:
        systems: What to time.
        rounds: Timed rounds.
        warmup: Rounds before them.
        advance: Called after each step, for a progress bar.
    """
    times: Times = {system.label: [] for system in systems}
    for round_ in range(warmup + rounds):
        for system in systems if round_ % 2 == 0 else reversed(systems):
            seconds = _time_step(system)
            if round_ >= warmup:
                times[system.label].append(seconds)
            advance()
    return times


def ratio(times: Times, label: str, reference: str, clock: str) -> Spread:
    """Spread over the rounds of the time of ``label`` in units of ``reference``."""
    return Spread.of([a[clock] / b[clock] for a, b in zip(times[label], times[reference])])


def _time_step(system: TrainingStep) -> dict[str, float]:
    """Seconds of one step: process time (all threads), wall time, and on a GPU the time between two events on it."""
    on_gpu = next(system.model.parameters()).is_cuda
    if on_gpu:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
    cpu, wall = time.process_time(), time.perf_counter()
    system.step()
    seconds = {}
    if on_gpu:
        end.record()
        torch.cuda.synchronize()
        seconds['cuda'] = start.elapsed_time(end) / 1000
    return {'cpu': time.process_time() - cpu, 'wall': time.perf_counter() - wall, **seconds}
