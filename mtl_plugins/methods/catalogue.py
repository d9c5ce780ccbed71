"""One row per method: what ``--list-methods`` prints and the tests and documents are generated from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from rich.console import Console
from rich.table import Table

from .naming import near_matches


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
        parts: Classes of :mod:`mtl_plugins.methods` that it is made of.
        paper: Authors, title and venue; empty if there is none.
        arxiv: Number on arXiv; empty if there is none.
        cost: Cost per batch in words, with K tasks and M groups.
        cost_formula: ``(num_tasks, num_groups, probe_interval) -> StepCost``; an interval of 0 is no probe.
        accumulates_exactly: Whether gradient accumulation gives the update of the large batch.
        verified: What was compared with what.
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


def _cost_gd(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    return StepCost(1, 1, 1)


def _cost_stgu(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    probes = Fraction(1, probe_interval) if probe_interval else Fraction(0)
    return StepCost(num_groups, num_groups, num_groups, probes)


def _cost_stgu_released(num_tasks: int, num_groups: int, probe_interval: int) -> StepCost:
    passes = max(num_groups, 2)
    return StepCost(passes, passes, passes)


_STGU_PAPER = 'Jeong and Yoon, Selective Task Group Updates for Multi-Task Optimization, ICLR 2025'

_ROWS = (
    MethodRow(
        key='gd',
        title='Gradient descent on the weighted sum',
        kind='loss weighting',
        wrapper='MultiTaskOptimWrapper',
        parts=('EqualWeighting',),
        paper='',
        arxiv='',
        cost='1 forward, 1 backward',
        cost_formula=_cost_gd,
        accumulates_exactly=True,
        verified="step: bit-equal to MMEngine's OptimWrapper; two ranks: to the joint batch, relative error <= 1e-5",
    ),
    MethodRow(
        key='stgu',
        title='Selective task group updates',
        kind='task groups',
        wrapper='SelectiveTaskGroupOptimWrapper',
        parts=('ProximalAffinity', 'AffinityPropagation'),
        paper=_STGU_PAPER,
        arxiv='2502.11986',
        cost='M forwards, M backwards; 1 forward without graph every probe_interval batches',
        cost_formula=_cost_stgu,
        accumulates_exactly=True,
        verified='step with fixed groups: bit-equal to a loop written out in the tests; affinity: to its rule written '
        'out; where it differs from the released program on purpose: docs/stgu.md',
    ),
    MethodRow(
        key='stgu_released',
        title="Selective task group updates, the authors' released program",
        kind='task groups',
        wrapper='ReleasedTaskGroupOptimWrapper',
        parts=('ReleasedAffinity', 'Released'),
        paper=_STGU_PAPER,
        arxiv='2502.11986',
        cost='M forwards, M backwards; 2 of each where M = 1',
        cost_formula=_cost_stgu_released,
        accumulates_exactly=True,
        verified='affinity map: bit-equal to traces of the released program after every update',
    ),
)

_CATALOGUE = {row.key: row for row in _ROWS}


def list_methods() -> tuple[MethodRow, ...]:
    """Return all rows in the order of the catalogue."""
    return tuple(_CATALOGUE.values())


def get_method(key: str) -> MethodRow:
    """Return the row of method ``key``.

    Raises:
        KeyError: If there is no such method; the message lists the near matches.
    """
    if key not in _CATALOGUE:
        raise KeyError(f"unknown method '{key}': {near_matches(key, _CATALOGUE)}")
    return _CATALOGUE[key]


def format_catalogue(width: int | None = None, color: bool = False) -> str:
    """Return the catalogue as a table.

    Args:
        width: Columns of the terminal; None to find out.
        color: Keep the terminal's colour codes.
    """
    table = Table(title='Methods (K tasks, M groups)', title_justify='left')
    table.add_column('method', no_wrap=True)
    for heading in ('name', 'kind', 'cost per batch', 'accumulates exactly', 'paper', 'verified'):
        table.add_column(heading, overflow='fold')
    for row in list_methods():
        paper = f'{row.paper}, arXiv {row.arxiv}' if row.arxiv else row.paper or '-'
        exact = 'yes' if row.accumulates_exactly else 'no'
        table.add_row(row.key, row.title, row.kind, row.cost, exact, paper, row.verified)
    console = Console(width=width, force_terminal=color, color_system='auto' if color else None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
