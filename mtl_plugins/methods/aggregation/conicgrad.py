"""A cone about the mean gradient."""

from collections.abc import Sequence

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import STATIONARY, best_in_ball, min_norm_weights, root

from .gramian import GramianAggregator, Products


class ConicGrad(GramianAggregator):
    """The update of the mean gradient's length, within a cone about it, that improves the worst task most.

    **Not verified against the paper**, whose text and code we did not have: built from its problem statement. u
    maximises min_k u . g_k subject to u . g_0 >= c |u| |g_0| and |u| = |g_0|, with the mean row g_0. If the direction
    of MGDA lies in the cone it is the solution; else the solution lies on the cone, u = |g_0| (c a + s e) with the axis
    a = g_0 / |g_0|, s = sqrt(1 - c^2) and a unit vector e orthogonal to a.

    Paper: Hassanpour, Janjua, Zhang, Lavasani, Zhang, Zhou, Gao, Fantastic Multi-Task Gradient Updates and How to Find
    Them In a Cone, arXiv 2502.00217. Scale ``'mean'``; heads
    ``'sum'``. The paper's own algorithm takes one gradient step on the dual weights per batch; here every batch is
    solved exactly and there is no state.

    Fall-backs, counted: if no direction in the cone improves all tasks, the direction on the cone that hurts the worst
    task least is taken, and g_0 itself if that is not unique. If g_0 = 0, so is u.

    Args:
        c: Least cosine between update and mean gradient, at least 0 and below 1.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Update in a cone about the mean, our derivation',
        paper='Hassanpour et al.',
        arxiv='2502.00217',
        verified='unverified: derived from the problem statement; optimality conditions',
    )
    scale = 'mean'

    def __init__(self, c: float = 0.25, tasks: Sequence[str] | int | None = None) -> None:
        if not 0 <= c < 1:
            raise ValueError(f'ConicGrad: c must be at least 0 and below 1, but got {c}')
        super().__init__(tasks)
        self.c = float(c)

    def _weights(self, rows: Products) -> np.ndarray:
        columns = root(rows.unit)
        mean = rows.norms / rows.norms.max()
        centre = columns @ mean
        length = float(np.linalg.norm(centre))
        if length <= 1e-14 * len(rows):
            self.fallbacks += 1
            return np.zeros(len(rows))
        axis_weights, axis = mean / length, centre / length
        radius = length * rows.norms.max() / len(rows)

        shortest = min_norm_weights(rows.unit, rows.norms) * rows.norms
        shortest = shortest / shortest.max()
        direction = columns @ shortest
        size = float(np.linalg.norm(direction))
        if size > STATIONARY and direction @ axis >= (self.c - 1e-12) * size:
            return radius * shortest / size / rows.norms

        if self.c == 0:  # only reached where nothing improves all tasks
            self.fallbacks += 1
            return radius * axis_weights / rows.norms
        side = np.sqrt(1 - self.c**2)
        cosines = axis @ columns
        slopes = rows.norms.min() / rows.norms
        across = columns - axis[:, None] * cosines
        across[:, np.linalg.norm(across, axis=0) <= 1e-13] = 0  # rows along the axis
        multipliers, value = best_in_ball(across, slopes, self.c / side * cosines)
        self.fallbacks += value <= 1e-12
        if np.linalg.norm(across @ multipliers) < 0.999:  # many directions are as good
            return radius * axis_weights / rows.norms
        unit_weights = side * multipliers + (self.c - side * (cosines @ multipliers)) * axis_weights
        return radius * unit_weights / rows.norms
