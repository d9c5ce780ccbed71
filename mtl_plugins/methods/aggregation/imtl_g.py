"""Impartial multi-task learning, the part that balances gradients."""

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import pseudo_inverse_product

from .gramian import GramianAggregator, Products


class IMTLG(GramianAggregator):
    """The update with equal projections on all gradients.

    u = sum_k a_k g_k with sum a = 1 and u . g_k / |g_k| equal for all k, hence a proportional to C^-1 1 / |g_k| with
    the matrix C of cosines. Weights may be negative.

    Paper: Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, Towards Impartial Multi-task Learning, ICLR 2021. Scale
    ``'mean'``; heads ``'sum'`` (LibMTL; nash-mtl weights them). IMTL is this together with the loss weighting IMTL-L,
    whose factors e^s multiply losses and rows before they come here.

    Where we differ from public code: cosines are inverted, not products, so that the pseudo-inverse of a singular
    problem does not depend on the lengths of the rows; nash-mtl and SamsungLabs/MTL add 1e-8 to the diagonal, TorchJD
    takes the pseudo-inverse of the Gramian, and for opposite rows these two disagree.

    Fall-backs, counted: if no u has equal positive projections (opposite rows), the least-squares solution is taken,
    which is zero if there is nothing but opposites. If the sum of the weights before normalisation is not positive,
    which happens when a short gradient conflicts with long ones, then sum a = 1 would turn the update against all
    tasks; instead sum |a| = 1 with the sign that improves them.
    """

    facts = MethodFacts(
        'Impartial learning, the gradient part',
        paper='Liu et al., ICLR 2021',
        verified='vectors of TorchJD, nash-mtl, LibMTL',
    )
    scale = 'mean'
    features_level = True

    def _weights(self, rows: Products) -> np.ndarray:
        inverse = rows.norms.min() / rows.norms
        solution = pseudo_inverse_product(rows.unit, np.ones(len(rows)))
        raw = solution * inverse
        size = np.abs(raw).sum()
        products = rows.unit @ solution
        if np.abs(products).max() <= 1e-6:
            self.fallbacks += 1
            return np.zeros(len(rows))
        equal = np.abs(products - 1).max() <= 1e-6
        if raw.sum() > 1e-6 * size:
            self.fallbacks += not equal
            return raw / raw.sum()
        self.fallbacks += 1
        return raw / size
