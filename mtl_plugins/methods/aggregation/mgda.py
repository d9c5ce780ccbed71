"""Multiple-gradient descent."""

from collections.abc import Sequence

import numpy as np

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import min_norm_weights

from .gramian import GramianAggregator, Products
from .rows import BY_LOSSES, NORMALISERS, divisors


class MGDA(GramianAggregator):
    """The shortest vector in the convex hull of the gradients.

    w = argmin |sum_k w_k g_k / n_k|^2 over w >= 0, sum w = 1, and u = sum_k w_k g_k; without normaliser n = 1. Then
    u . g_k >= |u|^2 for all k, so that no task gets worse to first order; u = 0 where no direction improves all.

    Papers: Désidéri, Multiple-gradient descent algorithm (MGDA) for multiobjective optimization, C. R. Acad. Sci. Paris
    2012; Sener, Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, arXiv 1810.04650.
    Scale ``'mean'``; heads ``'sum'`` (as in LibMTL; nash-mtl weights them).

    Where we differ from public code: the problem is solved exactly, by an active set; the projected-gradient and
    Frank-Wolfe loops of Sener and Koltun, LibMTL, SamsungLabs/MTL and TorchJD stop early, visibly so for rows of
    different length. nash-mtl multiplies w by K. With a normaliser LibMTL applies w to the normalised rows, the authors
    to the rows as they are; ``apply_to`` chooses.

    Fall-back, counted: if a loss that is to normalise is not positive, the call is made without normaliser.

    Args:
        normaliser: n_k: ``'none'``, 1; ``'l2'``, |g_k|; ``'loss'``, L_k; ``'loss+'``, L_k |g_k|.
        apply_to: ``'rows'``, u = sum w_k g_k; or ``'normalised'``, u = sum w_k g_k / n_k, which
            is :meth:`Aggregator.normalise_rows`.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Multiple-gradient descent; with interval=n: PSMGD',
        paper='Sener and Koltun, NeurIPS 2018',
        arxiv='1810.04650',
        verified='exact solutions to 1e-8; vectors of TorchJD, LibMTL, nash-mtl, SamsungLabs where their solvers '
        'converged',
    )
    scale = 'mean'
    features_level = True

    def __init__(
        self,
        normaliser: str = 'none',
        apply_to: str = 'rows',
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        if normaliser not in NORMALISERS:
            raise ValueError(f'MGDA: normaliser must be one of {", ".join(NORMALISERS)}, but got {normaliser!r}')
        if apply_to not in ('rows', 'normalised'):
            raise ValueError(f"MGDA: apply_to must be 'rows' or 'normalised', but got {apply_to!r}")
        super().__init__(tasks)
        self.normaliser = normaliser
        self.apply_to = apply_to
        if normaliser != 'none' and apply_to == 'rows':
            self.equivariant = False  # weights of dependent rows are not unique, and the update depends on them
        self.needs_losses = normaliser in BY_LOSSES
        if apply_to == 'normalised':
            self.normalise_rows(normaliser)

    def _weights(self, rows: Products) -> np.ndarray:
        if self.apply_to == 'normalised':
            return min_norm_weights(rows.unit, rows.norms)
        divisor = divisors(self.normaliser, rows.norms, rows.losses)
        self.fallbacks += divisor is None
        return min_norm_weights(rows.unit, rows.norms if divisor is None else rows.norms / divisor)
