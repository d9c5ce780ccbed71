"""What methods share whose products are those of gradients of independent batches."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .base import Aggregator, refuse_nonfinite
from .rows import gramian, weighted_sum
from .shares import equal_shares, shares_among

_WORDS = {2: 'two', 3: 'three'}


class IndependentBatches(Aggregator):
    """Weights on the simplex that go on from the last call, from products of rows of two batches.

    ``G`` is of shape (B, K, D), gradients of the same tasks on B disjoint batches, for example B micro-batches of one
    optimizer step. A single matrix is refused, unless ``single_batch=True`` says that it may stand for all of them. A
    task takes part if its row is zero in none of them.

    Args:
        single_batch: Accept ``G`` of shape (K, D).
        tasks: As for :class:`Aggregator`.

    Attributes:
        batches: The numbers B that the method takes.
    """

    batches: ClassVar[tuple[int, ...]]
    stateful = True
    STATE = dict(shares='_shares')
    gives_weights = True
    shardable = True

    def __init__(self, single_batch: bool = False, tasks: Sequence[str] | int | None = None) -> None:
        super().__init__(tasks)
        self.single_batch = bool(single_batch)

    @property
    def wants(self) -> str:
        """How many batches it wants, in words."""
        return ' or '.join(_WORDS[count] for count in self.batches)

    def _start(self, num_tasks: int) -> None:
        self._shares = equal_shares(num_tasks)

    @torch.no_grad()
    def __call__(
        self,
        G: Tensor,
        losses: Tensor | None = None,
        generator: torch.Generator | None = None,
        task_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the update.

        Args:
            G: Gradients of the present tasks on the batches, of shape (B, K, D); or of shape (K, D) with
                ``single_batch``.
            losses: Needed where losses normalise the rows.
            generator: Not used.
            task_ids: Which task each row belongs to; None for 0 ... K-1.

        Raises:
            TypeError: If ``G`` is no float tensor.
            ValueError: If a shape is wrong or a row is not finite.
        """
        name, shapes = type(self).__name__, ' or '.join(f'({count}, K, D)' for count in self.batches)
        if isinstance(G, Tensor) and G.dim() == 2 and not self.single_batch:
            raise ValueError(
                f'{name} needs gradients of {self.wants} independent batches, G of shape {shapes}, but got '
                f'{tuple(G.shape)}; give it {self.wants} micro-batches per step, or set single_batch=True to do without'
            )
        if isinstance(G, Tensor) and G.dim() == 3 and G.is_floating_point():
            if G.shape[0] not in self.batches or not G.shape[1]:
                raise ValueError(f'{name}: G must be of shape {shapes} with K >= 1, but got {tuple(G.shape)}')
            losses, ids = self._check(G.shape[1], losses, None, task_ids)
            return self._from_batches(G.detach(), losses, ids)
        return super().__call__(G, losses, generator, task_ids)

    def _aggregate(self, G: Tensor, losses: Tensor | None, generator: torch.Generator | None, ids: Tensor) -> Tensor:
        return self._from_batches(G[None], losses, ids)

    def _from_batches(self, batches: Tensor, losses: Tensor | None, ids: Tensor) -> Tensor:
        norms = np.sqrt(np.stack([self._products(batch).diagonal() for batch in batches]))
        refuse_nonfinite(self, torch.from_numpy(norms.sum(0)), ' of G')
        live = (norms > 0).all(0)
        self.rows_used = int(live.sum())
        weights = np.zeros(len(live))
        if self.rows_used:
            products = self._products(batches[0], batches[1] if len(batches) > 1 else None)[np.ix_(live, live)]
            lengths = norms[:, live]
            divisor = self._divisors(lengths.mean(0), None if losses is None else losses.numpy()[live])
            if divisor is not None:
                products, lengths = products / divisor[:, None] / divisor, lengths / divisor
            tasks = ids.numpy()[live]
            part, first = shares_among(self._shares, tasks)
            shares = self._search(products, float(lengths.mean()), first)
            self._shares[tasks] = shares * part
            found = self._weights(shares)
            weights[live] = found if divisor is None else found / divisor
        self.last_weights = torch.from_numpy(weights)
        return self._sum(batches, self.last_weights)

    def _products(self, G: Tensor, other: Tensor | None = None) -> np.ndarray:
        return self.part.sum(gramian(G, other)).numpy()

    @abstractmethod
    def _search(self, products: np.ndarray, length: float, shares: np.ndarray) -> np.ndarray:
        """Return the next weights on the simplex.

        Args:
            products: Of the rows of two batches, of shape (K, K).
            length: Mean length of the rows.
            shares: The last weights.
        """

    def _weights(self, shares: np.ndarray) -> np.ndarray:
        """Return the weights of the rows."""
        return shares

    def _sum(self, batches: Tensor, weights: Tensor) -> Tensor:
        """Return the update."""
        return weighted_sum(batches[-1], weights)
