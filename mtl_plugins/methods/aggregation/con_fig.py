"""Conflict-free inverse gradients."""

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import pseudo_inverse_product

from .gramian import Products
from .preferences import PreferenceAggregator


class ConFIG(PreferenceAggregator):
    """The direction with the same cosine to all gradients, as long as the sum of the projections on it.

    With the matrix U of unit rows, v = pinv(U) 1 normalised and u = (sum_k g_k . v) v. Because
    pinv(U) = U^T pinv(U U^T), cosines suffice. With preferences p, v = pinv(U) p normalised: the cosines are in
    proportion to them, and the length stays that of the sum of all projections.

    Paper: Liu, Chu, Thuerey, ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks, ICLR 2025,
    arXiv 2408.11104. Scale ``'sum'``; heads ``'sum'``. Without conflict if the rows are independent.

    Where we differ from public code: the pseudo-inverse is formed from the cosines in float64. Fall-back, counted: if
    no direction has the same cosine to all rows (opposite rows), the least-squares direction is taken, and u = 0 where
    that is zero.

    Args:
        pref_vector: As for :class:`PreferenceAggregator`.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Conflict-free inverse gradients',
        paper='Liu, Chu and Thuerey, ICLR 2025',
        arxiv='2408.11104',
        verified='vectors of TorchJD',
    )
    scale = preferred_scale = 'sum'

    def _weights(self, rows: Products) -> np.ndarray:
        wanted = self.preferences(rows, 1.0)
        wanted = wanted / max(wanted.max(), 1e-300)
        solution = pseudo_inverse_product(rows.unit, wanted)
        products = rows.unit @ solution
        square = float(solution @ products)
        self.fallbacks += np.abs(products - wanted).max() > 1e-6
        if np.abs(products).max() <= 1e-6:
            return np.zeros(len(rows))
        return (rows.norms @ products) / square * solution / rows.norms
