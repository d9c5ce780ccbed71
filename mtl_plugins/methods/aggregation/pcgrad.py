"""Projecting conflicting gradients."""

from collections.abc import Sequence

import numpy as np
import torch

from mtl_plugins.methods.facts import MethodFacts

from .gramian import GramianAggregator, Products


def partner_orders(num_rows: int, generator: torch.Generator | None) -> np.ndarray:
    """Return for every row the order in which it meets the others, shape (K, K-1); ascending without a generator."""
    others = np.arange(num_rows - 1)
    others = others + (others >= np.arange(num_rows)[:, None])
    if generator is None or num_rows == 1:
        return others
    keys = torch.rand(num_rows, num_rows - 1, dtype=torch.float64, generator=generator, device=generator.device)
    return np.take_along_axis(others, keys.cpu().numpy().argsort(1), 1)


class PCGrad(GramianAggregator):
    """Projects every gradient off those that it conflicts with.

    For every i: p = g_i; then for all j != i in random order, where p . g_j < 0: p <- p - (p . g_j / |g_j|^2) g_j,
    with the original g_j. The update is the sum of all p.

    Paper: Yu, Kumar, Gupta, Levine, Hausman, Finn, Gradient Surgery for Multi-Task Learning, NeurIPS 2020,
    arXiv 2001.06782. Scale ``'sum'``; heads ``'sum'``.

    Where we differ from public code: LibMTL, nash-mtl and SamsungLabs/MTL also project a row off itself, which changes
    the result only by rounding or after other projections; LibMTL and SamsungLabs/MTL add 1e-8 and 1e-5 to |g_j|^2,
    which spoils tiny rows, we add nothing; SamsungLabs/MTL takes one order for all i. Projections are made on
    coefficients of unit rows, so that no scale of the rows matters. There is no fall-back.

    Args:
        order: ``'random'``, or ``'ascending'`` for 0 ... K-1, which needs no generator.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Projecting conflicting gradients',
        paper='Yu et al., NeurIPS 2020',
        arxiv='2001.06782',
        verified='vectors of TorchJD, nash-mtl, SamsungLabs, LibMTL',
    )
    scale = 'sum'
    equivariant = False

    def __init__(self, order: str = 'random', tasks: Sequence[str] | int | None = None) -> None:
        if order not in ('random', 'ascending'):
            raise ValueError(f"PCGrad: order must be 'random' or 'ascending', but got {order!r}")
        super().__init__(tasks)
        self.order = order
        self.needs_generator = order == 'random'

    def _weights(self, rows: Products) -> np.ndarray:
        every = np.arange(len(rows))
        parts = np.eye(len(rows))  # row i holds p / |g_i| in coefficients of the unit rows
        orders = partner_orders(len(rows), rows.generator if self.needs_generator else None)
        met = np.empty_like(parts)
        for partner in orders.T:
            product = np.einsum('ik,ik->i', parts, rows.unit.take(partner, 0, met, 'clip'))
            parts[every, partner] -= np.minimum(product, 0)
        return rows.norms @ parts / rows.norms
