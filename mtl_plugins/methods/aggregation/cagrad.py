"""Conflict-averse gradient descent."""

from collections.abc import Sequence

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import best_in_ball, dual_cone_weights, root, stationary

from .gramian import GramianAggregator, Products


class CAGrad(GramianAggregator):
    """Near the mean gradient, the update that improves the worst task most.

    u maximises min_k u . g_k over the ball |u - g_0| <= c |g_0| about the mean row g_0. With the w on the simplex that
    minimises g_w . g_0 + c |g_0| |g_w|, where g_w = sum_k w_k g_k: u = g_0 + c |g_0| g_w / |g_w|.

    Paper: Liu, Liu, Jin, Stone, Liu, Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021,
    arXiv 2110.14048. Scale ``'mean'`` with ``rescale=2``, larger by 1 + c with ``rescale=0`` and by 1 / (1 + c^2) of
    that with ``rescale=1``; ``scale`` says ``'mean'`` for all of them. Heads ``'sum'``. A small c does not promise an
    update without conflict; c >= 1 does.

    Where we differ from public code: the problem is solved exactly on the active set (official, LibMTL and
    SamsungLabs/MTL: SLSQP with smoothed roots, off by up to 1e-3; TorchJD: an interior-point solver, and a zero update
    where |g_w| < 1e-4 of the longest scale, that is, whenever one task's gradient is short). nash-mtl multiplies by K.

    Fall-back, counted: if zero lies in the convex hull of the rows and the ball reaches updates without conflict, then
    g_w = 0 and u is not unique; it is then g_0 projected on {u: u . g_k >= 0 for all k}, the limit of the solutions.
    If g_0 = 0, so is u.

    Args:
        c: Radius of the ball relative to |g_0|, at least 0; the paper uses 0.4 and 0.5.
        rescale: 0: none; 1: divide by 1 + c^2; 2: divide by 1 + c.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Conflict-averse gradient descent',
        paper='Liu et al., NeurIPS 2021',
        arxiv='2110.14048',
        verified='exact solutions to 1e-8; vectors of LibMTL, TorchJD, nash-mtl where their solvers converged',
    )
    scale = 'mean'

    def __init__(self, c: float = 0.4, rescale: int = 1, tasks: Sequence[str] | int | None = None) -> None:
        if not 0 <= c < float('inf'):
            raise ValueError(f'CAGrad: c must be finite and >= 0, but got {c}')
        if rescale not in (0, 1, 2):
            raise ValueError(f'CAGrad: rescale must be 0, 1 or 2, but got {rescale!r}')
        super().__init__(tasks)
        self.c = float(c)
        self.rescale = int(rescale)

    def _weights(self, rows: Products) -> np.ndarray:
        mean = rows.norms / len(rows)  # g_0 in coefficients of the unit rows
        divisor = (1, 1 + self.c**2, 1 + self.c)[self.rescale]
        return (mean + self._correction(rows, mean)) / rows.norms / divisor

    def _correction(self, rows: Products, mean: np.ndarray) -> np.ndarray:
        columns = root(rows.unit)
        centre = columns @ mean
        length = float(np.linalg.norm(centre))
        radius = self.c * length
        if length <= 1e-14 * mean.max():
            return -mean
        if radius == 0:
            return np.zeros_like(mean)
        if stationary(rows.unit, rows.norms):
            projection = dual_cone_weights(columns, mean)
            if np.linalg.norm(columns @ projection) <= radius * (1 + 1e-12):
                self.fallbacks += 1
                return projection
        slopes = rows.norms.min() / rows.norms
        multipliers, _ = best_in_ball(columns, slopes, centre @ columns / radius)
        return radius * multipliers
