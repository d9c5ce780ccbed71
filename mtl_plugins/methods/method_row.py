"""What is known about a method, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class StepCost:
    """Work per batch.

    Args:
        forwards: Forward passes with graph.
        backwards: Backward passes.
        steps: Steps of the optimizer.
        probes: Forward passes without graph, on average per batch.
    """

    forwards: int
    backwards: int
    steps: int
    probes: Fraction = Fraction(0)

    @property
    def relative(self) -> float:
        """Rough cost in units of one ordinary step, a backward pass counted as two forward passes."""
        return float(self.forwards + 2 * self.backwards + self.probes) / 3


CostFunction = Callable[[int, int, int], StepCost]


@dataclass(frozen=True)
class MethodRow:
    """What is known about a method.

    Args:
        key: Name on the command line and of the fragment ``configs/_base_/methods/<key>.py``.
        title: Name in tables.
        kind: Where it acts, for example ``'loss weighting'``.
        wrapper: Step strategy, a name of the ``OPTIM_WRAPPERS`` registry.
        parts: Classes of :mod:`mtl_plugins.methods` that it is made of; empty if the step strategy is all there is.
        paper: Authors, title and venue; empty if there is none.
        arxiv: Number on arXiv; empty if there is none.
        cost: Cost per batch in words, with K tasks and M groups.
        cost_formula: ``(num_tasks, num_groups, probe_interval) -> StepCost``; an interval of 0 is no probe.
        accumulates_exactly: Whether gradient accumulation gives the update of the large batch; if not, it is refused.
        verified: What was compared with what.
        one_task: How a run with one task only differs from ordinary training (``gd``), and why; empty: it does not.
    """

    key: str
    title: str
    kind: str
    wrapper: str
    parts: tuple[str, ...]
    paper: str
    arxiv: str
    cost: str
    cost_formula: CostFunction
    accumulates_exactly: bool
    verified: str
    one_task: str = ''

    def step_cost(self, num_tasks: int, num_groups: int = 1, probe_interval: int = 0) -> StepCost:
        """Return the work per batch.

        Args:
            num_tasks: Number of tasks K.
            num_groups: Number of groups M, for methods with groups.
            probe_interval: Batches per extra forward that measures the last group; 0 for none.

        Raises:
            ValueError: If ``num_groups`` does not lie between 1 and K, or ``probe_interval`` is negative.
        """
        if not 1 <= num_groups <= num_tasks:
            raise ValueError(f'num_groups must lie between 1 and num_tasks={num_tasks}, but got {num_groups}')
        if probe_interval < 0:
            raise ValueError(f'probe_interval must not be negative, but got {probe_interval}')
        return self.cost_formula(num_tasks, num_groups, probe_interval)
