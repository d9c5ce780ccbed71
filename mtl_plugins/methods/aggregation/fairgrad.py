"""Fair resource allocation among tasks; Nash bargaining."""

from collections.abc import Sequence

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import fair_weights

from .gramian import GramianAggregator, Products


class FairGrad(GramianAggregator):
    """The update that is alpha-fair: (G G^T) w = w^(-1/alpha), w > 0, u = G^T w.

    alpha = 1 is proportional fairness, the bargaining solution of Nash-MTL; large alpha approaches max-min fairness.
    A solution improves every task: u . g_k = w_k^(-1/alpha) > 0.

    Paper: Ban, Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024, arXiv 2402.15638. Scale ``'raw'``:
    |u| goes with the rows to the power (1 - alpha) / (1 + alpha). Heads ``'sum'``, as in the official code (LibMTL
    weights them).

    Where we differ from public code: Newton's method on the convex potential, to 1e-10, instead of a bounded
    least-squares search from 1/K; the official code multiplies the update by K and clips it to length 1, we do neither
    (see ``max_norm``).

    Fall-back, counted: there is no solution where zero lies in the convex hull of the rows (opposite rows; the search
    of the official code then ends at weights of 1e4). The cosines then get 1e-6 added to their diagonal.

    Args:
        alpha: Kind of fairness, above 0.
        max_norm: Largest length of the update; None for no limit.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Fair resource allocation',
        paper='Ban and Ji, ICML 2024',
        arxiv='2402.15638',
        verified='exact solutions to 1e-8; vectors of the official program, TorchJD, LibMTL',
    )
    non_conflicting = True

    def __init__(
        self,
        alpha: float = 2.0,
        max_norm: float | None = None,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        name = type(self).__name__
        if not 0 < alpha < float('inf'):
            raise ValueError(f'{name}: alpha must be finite and > 0 (0 would be the mean), but got {alpha}')
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f'{name}: max_norm must be > 0, or None for no limit, but got {max_norm}')
        super().__init__(tasks)
        self.alpha = float(alpha)
        self.max_norm = max_norm

    def _weights(self, rows: Products) -> np.ndarray:
        weights, solved = fair_weights(rows.unit, rows.norms, self.alpha)
        self.fallbacks += not solved
        return self._clip(weights, rows)

    def _only_weight(self, rows: Products) -> np.ndarray:
        return self._clip(np.ones(1), rows)

    def _clip(self, weights: np.ndarray, rows: Products) -> np.ndarray:
        if self.max_norm is None:
            return weights
        scaled = weights * rows.norms
        length = float(np.sqrt(max(scaled @ rows.unit @ scaled, 0)))
        return weights * min(1.0, self.max_norm / max(length, 1e-300))
