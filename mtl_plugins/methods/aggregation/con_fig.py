"""Conflict-free inverse gradients."""

from __future__ import annotations

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import pseudo_inverse_product

from .gramian import GramianAggregator, Products


class ConFIG(GramianAggregator):
    """The direction with the same cosine to all gradients, as long as the sum of the projections on it.

    With the matrix U of unit rows, v = pinv(U) 1 normalised and u = (sum_k g_k . v) v. Because
    pinv(U) = U^T pinv(U U^T), cosines suffice.

    Paper: Liu, Chu, Thuerey, ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks, ICLR 2025,
    arXiv 2408.11104. Scale ``'sum'``; heads ``'sum'``. Without conflict if the rows are independent.

    Where we differ from public code: the pseudo-inverse is formed from the cosines in float64. Fall-back, counted: if
    no direction has the same cosine to all rows (opposite rows), the least-squares direction is taken, and u = 0 where
    that is zero.
    """

    facts = MethodFacts(
        'Conflict-free inverse gradients',
        paper='Liu, Chu and Thuerey, ICLR 2025',
        arxiv='2408.11104',
        verified='vectors of TorchJD',
    )
    scale = 'sum'

    def _weights(self, rows: Products) -> np.ndarray:
        solution = pseudo_inverse_product(rows.unit, np.ones(len(rows)))
        products = rows.unit @ solution
        square = float(solution @ products)
        self.fallbacks += np.abs(products - 1).max() > 1e-6
        if np.abs(products).max() <= 1e-6:
            return np.zeros(len(rows))
        return (rows.norms @ products) / square * solution / rows.norms
