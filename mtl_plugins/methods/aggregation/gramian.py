"""What the aggregators share that look at the products of the rows only."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.methods.solvers import unit_gramian

from .base import Aggregator, refuse_nonfinite
from .rows import LENGTHS, gramian, narrowed, weighted_sum


@dataclass(frozen=True)
class Products:
    """What is known about K rows, none of which is zero.

    Args:
        gram: Products of all pairs, of shape (K, K).
        unit: Cosines of all pairs.
        norms: Lengths.
        losses: Losses, if the method asked for them.
        generator: Source of random numbers, if the method asked for it.
        ids: Task of each row.
    """

    gram: np.ndarray
    unit: np.ndarray
    norms: np.ndarray
    losses: np.ndarray | None
    generator: torch.Generator | None
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.norms)


class GramianAggregator(Aggregator):
    """An aggregator whose update is a sum of the rows with weights that follow from their products.

    The products and all K x K algebra are in float64 on the CPU. With one task in all, not merely in this call, the
    update is that task's gradient.
    """

    gramian_only = True
    gives_weights = True

    @torch.no_grad()
    def weights(
        self,
        gram: Tensor,
        losses: Tensor | None = None,
        generator: torch.Generator | None = None,
        task_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the weights of the rows.

        Args:
            gram: Products of all pairs of rows, of shape (K, K).
            losses: As for a call of the aggregator.
            generator: As for a call of the aggregator.
            task_ids: As for a call of the aggregator.

        Returns:
            Float64 tensor of shape (K,) on the CPU; 0 for rows that are zero.

        Raises:
            ValueError: If a shape is wrong, a product is not finite, or the losses or the generator are missing.
        """
        name = type(self).__name__
        if gram.dim() != 2 or gram.shape[0] != gram.shape[1] or not gram.shape[0]:
            raise ValueError(f'{name}: gram must be of shape (K, K) with K >= 1, but got {tuple(gram.shape)}')
        return self._solve(gram, *self._check(gram.shape[0], losses, generator, task_ids), generator)

    def _aggregate(self, G: Tensor, losses: Tensor | None, generator: torch.Generator | None, ids: Tensor) -> Tensor:
        gram = gramian(G)
        weights = self._solve(gram, losses, ids, generator)
        if weights.abs() @ gram.diagonal().sqrt() > LENGTHS[1]:
            return narrowed(weighted_sum(G.double(), weights), G.dtype)
        return weighted_sum(G, weights)

    def _solve(self, gram: Tensor, losses: Tensor | None, ids: Tensor, generator: torch.Generator | None) -> Tensor:
        gram = gram.detach().to('cpu', torch.float64)
        refuse_nonfinite(self, gram.diagonal())
        refuse_nonfinite(self, gram.sum(1))
        products = gram.numpy()
        squares = products.diagonal()
        live = squares > 0
        self.rows_used = int(live.sum())
        weights = np.zeros(len(squares))
        if self.rows_used:
            kept = products if self.rows_used == len(squares) else products[np.ix_(live, live)]
            kept_losses = None if losses is None else losses.numpy()[live]
            divisor = self._divisors(np.sqrt(kept.diagonal()), kept_losses)
            if divisor is not None:
                kept = kept / divisor[:, None] / divisor
            rows = Products(kept, *unit_gramian(kept), kept_losses, generator, ids.numpy()[live])
            found = self._only_weight(rows) if self._alone else self._weights(rows)
            weights[live] = found if divisor is None else found / divisor
        self.last_weights = torch.from_numpy(weights)
        return self.last_weights

    def _only_weight(self, rows: Products) -> np.ndarray:
        """Return the weight of the row where there is one task only: ordinary training."""
        return np.ones(1)

    @abstractmethod
    def _weights(self, rows: Products) -> np.ndarray:
        """Return the weights of the rows; no array of ``rows`` may be changed."""
