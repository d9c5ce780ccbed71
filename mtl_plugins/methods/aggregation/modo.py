"""Multi-objective gradients with double sampling."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import simplex_projection

from .independent import IndependentBatches
from .rows import weighted_sum


class MoDo(IndependentBatches):
    """Weights that go one projected gradient step towards those of MGDA per call, from two independent batches.

    With the rows G1 and G2 of two batches, w <- P(w - gamma (G1 G2^T w + rho w)) from w = 1/K, where P projects on the
    simplex, and u = sum_k w_k (g1_k + g2_k) / 2; with a third batch u = sum_k w_k g3_k. G1 G2^T is an unbiased estimate
    of the products of the mean gradients, which G1 G1^T is not: with ``single_batch=True`` this promise is given up.

    Paper: Chen, Fernando, Ying, Chen, Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization and
    Conflict-Avoidance, JMLR 2024 (update with the mean of both batches: equation 2.9b, as TorchJD cites it). Scale
    ``'mean'``; heads ``'sum'``. Stateful: w goes on from the last call. The defaults are those of TorchJD 0.18.

    ``gamma`` is in units of one over a squared length of rows and has to be chosen for the losses at hand: for long
    rows w jumps to a corner of the simplex. Where we differ from public code: tasks that are absent keep their part of
    w, and the others share theirs. There is no fall-back.

    Args:
        gamma: Length of the step, above 0.
        rho: Pull towards equal weights, at least 0.
        single_batch: Accept ``G`` of shape (K, D).
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Multi-objective descent with double sampling, on one batch',
        paper='Chen et al., JMLR 2024',
        verified='TorchJD 0.18, to 1e-6. The key has one batch stand for the two or three that the paper wants',
    )
    scale = 'mean'
    batches = (2, 3)

    def __init__(
        self,
        gamma: float = 0.1,
        rho: float = 0.1,
        single_batch: bool = False,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        if not gamma > 0 or not rho >= 0:
            raise ValueError(f'MoDo: gamma must be > 0 and rho >= 0, but got {gamma} and {rho}')
        super().__init__(single_batch, tasks)
        self.gamma, self.rho = float(gamma), float(rho)

    def _search(self, products: np.ndarray, length: float, shares: np.ndarray) -> np.ndarray:
        return simplex_projection(shares - self.gamma * (products @ shares + self.rho * shares))

    def _sum(self, batches: Tensor, weights: Tensor) -> Tensor:
        if len(batches) != 2:
            return super()._sum(batches, weights)
        return weighted_sum(batches[0], weights / 2) + weighted_sum(batches[1], weights / 2)
