"""Gradient vaccine."""

from collections.abc import Sequence

import numpy as np

from mtl_plugins.methods.facts import MethodFacts

from .gramian import GramianAggregator, Products
from .pcgrad import partner_orders

_SHORT = 1e-6  # of a square that was 1: what is left of it is computed anew, for its digits have cancelled


def _between(low: float, numbers: np.ndarray, high: float) -> np.ndarray:
    return np.minimum(np.maximum(numbers, low), high)  # np.clip takes several times as long for few numbers


class GradVac(GramianAggregator):
    """Raises the cosine of every pair of gradients to its running mean.

    For every i: p = g_i; then for all j != i in random order, with the cosine f of p and g_j and the target t_ij: where
    f < t, p <- p + g_j |p| (t sqrt(1 - f^2) - f sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)), which makes the cosine t; then
    t <- (1 - beta) t + beta f. Targets start at 0. The update is the sum of all p.

    Paper: Wang, Tsvetkov, Firat, Cao, Gradient Vaccine, ICLR 2021, arXiv 2010.05874. Scale ``'sum'``; heads ``'sum'``.
    Stateful: the targets.

    Where we differ from public code: as for :class:`PCGrad`. Targets follow always, as in LibMTL and TorchJD
    (SamsungLabs/MTL: only where p was changed); f and t are kept within 1 - 1e-8 of zero, which public code does by
    adding 1e-8 to the divisor. beta = 0.5 is the default there; the paper is said to use 0.01. There is no fall-back.

    Args:
        beta: Pace of the targets, from 0 to 1.
        order: As for :class:`PCGrad`.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Gradient vaccine', paper='Wang et al., ICLR 2021', arxiv='2010.05874', verified='vectors of TorchJD, LibMTL'
    )
    scale = 'sum'
    stateful = True
    STATE = dict(targets='_targets')
    equivariant = False

    def __init__(self, beta: float = 0.5, order: str = 'random', tasks: Sequence[str] | int | None = None) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f'GradVac: beta must lie between 0 and 1, but got {beta}')
        if order not in ('random', 'ascending'):
            raise ValueError(f"GradVac: order must be 'random' or 'ascending', but got {order!r}")
        super().__init__(tasks)
        self.beta = float(beta)
        self.order = order
        self.needs_generator = order == 'random'

    def _start(self, num_tasks: int) -> None:
        self._targets = np.zeros((num_tasks, num_tasks))

    def _weights(self, rows: Products) -> np.ndarray:
        size, limit = len(rows), 1 - 1e-8
        parts = np.eye(size)  # row i holds p / |g_i| in coefficients of the unit rows
        squares = np.ones(size)  # of the lengths of p / |g_i|
        tasks = np.ix_(rows.ids, rows.ids)
        targets = self._targets[tasks]
        # Each pair meets once, so that what concerns the targets is done for all of them together.
        partners = partner_orders(size, rows.generator if self.needs_generator else None).T.copy()
        pairs = size * np.arange(size) + partners  # places in the flat matrices
        before = targets.ravel()[pairs]
        limited = _between(-limit, before, limit)
        room = 1 - limited**2
        cosines, alive = np.empty_like(before), np.ones(before.shape, dtype=bool)
        met = np.empty_like(parts)
        for place, (partner, pair, target, rest) in enumerate(zip(partners, pairs, limited, room)):
            product = np.einsum('ik,ik->i', parts, rows.unit.take(partner, 0, met, 'clip'))
            if squares.min() < _SHORT:
                short = squares < _SHORT
                squares[short] = np.sum(parts[short] @ rows.unit * parts[short], axis=1)
                length = np.sqrt(np.maximum(squares, 0))
                alive[place] = length > 1e-12
                divisor = np.where(alive[place], length, 1)
            else:
                length = divisor = np.sqrt(squares)
            cosines[place] = cosine = _between(-limit, product / divisor, limit)
            change = length * (target * np.sqrt((1 - cosine**2) / rest) - cosine)
            change *= alive[place] & (cosine < target)
            parts.ravel()[pair] += change
            squares += change * (2 * product + change)
        targets.ravel()[pairs] = np.where(alive, (1 - self.beta) * before + self.beta * cosines, before)
        self._targets[tasks] = targets
        return rows.norms @ parts / rows.norms
