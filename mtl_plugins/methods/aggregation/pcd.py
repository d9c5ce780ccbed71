"""A main task, followed as closely as the progress of the others allows."""

from collections.abc import Mapping, Sequence

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.naming import check_known, numbers_by_task
from mtl_plugins.methods.solvers import EPS, least_distance, root

from .gramian import GramianAggregator, Products

# The conditions count as incompatible if meeting all takes a detour 10^4 times as long as the worst alone would; the
# square of that ratio is 1 / slack - 1.
_SLACK = 1e-8
_ROUNDING = 1e-12


class PCD(GramianAggregator):
    """The direction next to the gradient of a main task in which every other task makes some progress.

    With the mean v_k of |g_k|^2 over time and h_k = g_k / sqrt(v_k + eps), d is nearest to h of the main task among
    the d with h_j . d >= tau |h_j|^2 for all others j; u = |g_main| d / |d|. tau is the share of the progress that a
    step along its own h_j would bring to task j.

    Paper: Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical Multi-Objective
    Optimization, TMLR 2026, arXiv 2606.29521. Its text was not at hand: problem, defaults and the special cases are
    those of TorchJD 0.18. Scale ``'mean'``; heads ``'sum'``. Stateful: v and a count per task; v is a moving average
    with the decay beta, corrected for its start at zero.

    Where we differ from public code: the main task has a name (TorchJD: it is the first row), each task's v counts the
    calls that had it, and rows of zeros leave v alone, as absent tasks do (TorchJD averages them in, and gives no
    update for a main row of zeros). The problem is solved by non-negative least squares.

    Fall-backs, counted: where the main task is absent, or its row is zero, the update is the mean of the present rows,
    and v stays as it is. If no d meets all conditions (others that are opposite, up to one part in 10^4), u = g_main.
    If d = 0 (another task opposite to the main one, and tau = 0), u is zero.

    Args:
        main: Name of the main task; None for the first one.
        tau: Share of their own progress that the others get, from 0 to 1: one number, or one per task name (0.02 for
            tasks that are not named).
        beta: Share of the past in v, from 0 to below 1.
        eps: Added to v, in units of squared gradients.
        tasks: As for :class:`Aggregator`.

    Raises:
        ValueError: If an argument is out of range; from :meth:`bind`, if one names an unknown task.
    """

    facts = MethodFacts(
        'Priority-constrained descent: a main task and others',
        paper='TMLR 2026',
        arxiv='2606.29521',
        verified='TorchJD 0.18, to 1e-6; not the text of the paper',
    )
    scale = 'mean'
    stateful = True
    STATE = dict(squares='_squares', counts='_counts')
    equivariant = False  # without names, the main task is the first row

    def __init__(
        self,
        main: str | None = None,
        tau: float | Mapping[str, float] = 0.02,
        beta: float = 0.999,
        eps: float = 1e-8,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        for value in tau.values() if isinstance(tau, Mapping) else (tau,):
            if not 0 <= value <= 1:
                raise ValueError(f'PCD: tau must lie between 0 and 1, but got {value}')
        if not 0 <= beta < 1 or not eps >= 0:
            raise ValueError(f'PCD: beta must be at least 0 and below 1, and eps >= 0, but got {beta} and {eps}')
        self.main, self.tau, self.beta, self.eps = main, tau, float(beta), float(eps)
        super().__init__(tasks)

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order that ``task_ids`` counts (or their number); the state restarts."""
        super().bind(tasks)
        check_known('PCD', 'main', () if self.main is None else (self.main,), self.tasks)
        self._first = 0 if self.main is None else self.tasks.index(self.main)
        self._taus = np.array(numbers_by_task('PCD', 'tau', self.tau, self.tasks, 0.02))

    def _start(self, num_tasks: int) -> None:
        self._squares, self._counts = np.zeros(num_tasks), np.zeros(num_tasks)

    @property
    def note(self) -> str:
        """The main task."""
        main = '' if self.tasks is None else f"main task '{self.tasks[self._first]}'"
        return ', '.join(filter(None, [main, super().note]))

    def _weights(self, rows: Products) -> np.ndarray:
        (place,) = np.nonzero(rows.ids == self._first)
        if not len(place):
            self.fallbacks += 1
            return np.full(len(rows), 1 / len(rows))
        main = int(place[0])
        others = np.arange(len(rows)) != main
        sizes = rows.norms / np.sqrt(self._advance(rows) + self.eps)
        # In units of h_main: what the detour from it has to bring along each of the others' unit rows.
        wanted = (self._taus[rows.ids] * (sizes / sizes[main]) - rows.unit[main])[others]
        direction = np.zeros(len(rows))
        direction[main] = 1
        longest = wanted.max(initial=0)
        if longest > _ROUNDING:
            multipliers, _, slack = least_distance(root(rows.unit)[:, others], wanted / longest)
            if slack <= _SLACK:
                self.fallbacks += 1
            else:
                direction[others] = multipliers * (longest / slack)
        square = direction @ rows.unit @ direction
        if square <= 10 * EPS * np.abs(direction).sum() ** 2:
            return np.zeros(len(rows))
        return direction * rows.norms[main] / np.sqrt(square) / rows.norms

    def _advance(self, rows: Products) -> np.ndarray:
        """Take the lengths of this call; returns v of its tasks."""
        ids = rows.ids
        self._squares[ids] = self.beta * self._squares[ids] + (1 - self.beta) * np.square(rows.norms)
        self._counts[ids] += 1
        return self._squares[ids] / (1 - self.beta ** self._counts[ids])
