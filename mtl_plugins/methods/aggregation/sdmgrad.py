"""Stochastic direction-oriented multi-objective gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.solvers import simplex_projection

from .base import Aggregator, refuse_nonfinite
from .rows import gramian, weighted_sum


class SDMGrad(Aggregator):
    """The direction of MGDA, drawn towards the mean gradient, from gradients of independent batches.

    w minimises |G^T w + lamda g_0|^2 over the simplex, with the mean row g_0; u = (G^T w + lamda g_0) / (1 + lamda).
    The gradient of the objective, G (G^T w + lamda g_0), is only unbiased if its two factors G come from independent
    batches, and u if its G comes from a third: ``G`` is therefore of shape (3, K, D), gradients of the same tasks on
    three disjoint batches, for example three micro-batches of one optimizer step. A single matrix is refused, unless
    ``single_batch=True`` says that it may stand for all three, which gives up what the method is about: what is left is
    MGDA drawn to the mean.

    Paper: Xiao, Ban, Ji, Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms,
    NeurIPS 2023, arXiv 2305.18409. Scale ``'mean'``; heads ``'sum'``. Stateful: w goes on from the last batch.

    The search is that of public code, not an exact one: ``iterations`` projected steps of gradient descent with
    momentum on products divided by the squared mean length of the rows. LibMTL takes lr 5, TorchJD 10. There is no
    frozen vector for it. A task takes part if its row is zero in none of the three. There is no fall-back.

    Args:
        lamda: Pull towards the mean gradient, at least 0.
        lr: Step of the search.
        momentum: Momentum of the search.
        iterations: Steps of the search.
        single_batch: Accept ``G`` of shape (K, D).
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Direction-oriented multi-objective descent, on one batch',
        paper='Xiao, Ban and Ji, NeurIPS 2023',
        arxiv='2305.18409',
        verified='formula; no vectors. The key has one batch stand for the three that the paper wants',
    )
    scale = 'mean'
    stateful = True
    equivariant = False  # the search with such long steps enlarges rounding
    gives_weights = True

    def __init__(
        self,
        lamda: float = 0.3,
        lr: float = 10.0,
        momentum: float = 0.5,
        iterations: int = 20,
        single_batch: bool = False,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        if not lamda >= 0 or not lr > 0 or not 0 <= momentum < 1 or iterations < 1:
            raise ValueError(
                'SDMGrad: lamda must be >= 0, lr > 0, momentum in [0, 1) and iterations >= 1, '
                f'but got {lamda}, {lr}, {momentum} and {iterations}'
            )
        self._shares = np.zeros(0)
        super().__init__(tasks)
        self.lamda, self.lr, self.momentum = float(lamda), float(lr), float(momentum)
        self.iterations = int(iterations)
        self.single_batch = bool(single_batch)

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order that ``task_ids`` counts (or their number); the state restarts."""
        super().bind(tasks)
        self._shares = np.full(len(self.tasks), 1 / len(self.tasks))

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
            G: Gradients of the present tasks on three batches, of shape (3, K, D); or of shape (K, D) with
                ``single_batch``.
            losses: Not used.
            generator: Not used.
            task_ids: Which task each row belongs to; None for 0 ... K-1.

        Raises:
            TypeError: If ``G`` is no float tensor.
            ValueError: If a shape is wrong or a row is not finite.
        """
        if isinstance(G, Tensor) and G.dim() == 2 and not self.single_batch:
            raise ValueError(
                'SDMGrad needs gradients of three independent batches, G of shape (3, K, D), but got '
                f'{tuple(G.shape)}; give it three micro-batches per step, or set single_batch=True to do without'
            )
        if isinstance(G, Tensor) and G.dim() == 3 and G.is_floating_point():
            if G.shape[0] != 3 or not G.shape[1]:
                raise ValueError(f'SDMGrad: G must be of shape (3, K, D) with K >= 1, but got {tuple(G.shape)}')
            _, ids = self._check(G.shape[1], None, None, task_ids)
            return self._from_batches(G.detach(), ids)
        return super().__call__(G, losses, generator, task_ids)

    def _aggregate(self, G: Tensor, losses: Tensor | None, generator: torch.Generator | None, ids: Tensor) -> Tensor:
        return self._from_batches(G[None], ids)

    def _from_batches(self, batches: Tensor, ids: Tensor) -> Tensor:
        norms = np.sqrt(np.stack([gramian(batch).numpy().diagonal() for batch in batches]))
        refuse_nonfinite(self, torch.from_numpy(norms.sum(0)), ' of G')
        live = (norms > 0).all(0)
        self.rows_used = int(live.sum())
        weights = np.zeros(len(live))
        if self.rows_used:
            products = gramian(batches[0], batches[1] if len(batches) > 1 else None).numpy()[np.ix_(live, live)]
            products = products / norms[:, live].mean() / norms[:, live].mean()
            tasks = ids.numpy()[live]
            # The part of w that belongs to these tasks; it is zero if w lies wholly on tasks that are absent now.
            part = self._shares[tasks].sum()
            first = self._shares[tasks] / part if part > 0 else np.full(self.rows_used, 1 / self.rows_used)
            shares = self._search(products, first)
            self._shares[tasks] = shares * part
            weights[live] = (shares + self.lamda / self.rows_used) / (1 + self.lamda)
        self.last_weights = torch.from_numpy(weights)
        return weighted_sum(batches[-1], self.last_weights)

    def _search(self, products: np.ndarray, shares: np.ndarray) -> np.ndarray:
        pull = self.lamda * products.mean(1)
        speed = np.zeros_like(shares)
        for _ in range(self.iterations):
            speed = self.momentum * speed + products @ shares + pull
            shares = simplex_projection(shares - self.lr * speed)
        return shares

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the search."""
        return dict(shares=torch.from_numpy(self._shares.copy()))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the weights of the search."""
        self._check_state(state, ('shares',))
        self._shares = state['shares'].to('cpu', torch.float64).numpy().copy()
        if self.tasks is None and len(self._shares):
            self.tasks = tuple(str(k) for k in range(len(self._shares)))
