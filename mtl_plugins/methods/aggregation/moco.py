"""Multi-objective gradient correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import RowAggregator
from .buffers import TaskBuffer
from .rows import gramian


class MoCo(RowAggregator):
    """Follows the gradients with a buffer and the weights of MGDA with one step per batch.

    y_k <- y_k - beta_t (y_k - L_k g_k / |g_k|), from y = 0; l <- softmax(l - gamma_t (y y^T + rho I) l), from l = 1/K;
    u = sum_k l_k y_k. beta_t = beta / t^beta_sigma and gamma_t = gamma / t^gamma_sigma with the number t of calls.

    Paper: Fernando, Shen, Liu, Chaudhury, Murugesan, Chen, Mitigating Gradient Bias in Multi-objective Learning: A
    Provably Convergent Approach, ICLR 2023. Scale ``'raw'``; heads ``'sum'``. Stateful: a buffer of 4 K D bytes, the
    weights and the count. Coordinates are needed. The formulas are those of LibMTL.

    Where we differ from public code: LibMTL adds 1e-8 to |g_k|; tasks that are absent keep y and l. There is no
    fall-back.

    Args:
        beta: First pace of the buffer, above 0 and at most 1.
        beta_sigma: Exponent with which it fades.
        gamma: First pace of the weights.
        gamma_sigma: Exponent with which it fades.
        rho: Added to the diagonal of the products.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Multi-objective gradient correction',
        paper='Fernando et al., ICLR 2023',
        verified='vectors of LibMTL',
        one_task='its buffer follows the gradient, made as long as the loss, with delay',
    )
    needs_losses = True
    stateful = True
    shardable = True

    def __init__(
        self,
        beta: float = 0.5,
        beta_sigma: float = 0.5,
        gamma: float = 0.1,
        gamma_sigma: float = 0.5,
        rho: float = 0.0,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        if not 0 < beta <= 1:
            raise ValueError(f'MoCo: beta must be above 0 and at most 1, but got {beta}')
        for name, value in dict(beta_sigma=beta_sigma, gamma=gamma, gamma_sigma=gamma_sigma, rho=rho).items():
            if not value >= 0:
                raise ValueError(f'MoCo: {name} must be >= 0, but got {value}')
        self._buffer = TaskBuffer('MoCo')
        self._shares = np.zeros(0)
        self._count = 0
        super().__init__(tasks)
        self.buffer = self._buffer
        self.beta, self.beta_sigma = float(beta), float(beta_sigma)
        self.gamma, self.gamma_sigma = float(gamma), float(gamma_sigma)
        self.rho = float(rho)

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order that ``task_ids`` counts (or their number); the state restarts."""
        super().bind(tasks)
        self._buffer.data = None
        self._shares = np.full(len(self.tasks), 1 / len(self.tasks))
        self._count = 0

    def _combine(
        self,
        G: Tensor,
        norms: Tensor,
        losses: Tensor | None,
        generator: torch.Generator | None,
        ids: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        self._count += 1
        pace = self.beta / self._count**self.beta_sigma
        data = self._buffer.rows_for(len(self.tasks), G)
        present = ids.tolist()
        for row, (task, factor) in enumerate(zip(present, (losses / norms).tolist())):
            data[task].mul_(1 - pace).add_(G[row], alpha=pace * factor)
        held = data if present == list(range(len(data))) else data[present]
        products = self.part.sum(gramian(held)).numpy()
        shares = self._shares[present] / self._shares[present].sum()
        gamma = self.gamma / self._count**self.gamma_sigma
        shares = shares - gamma * (products @ shares + self.rho * shares)
        shares = np.exp(shares - shares.max())
        shares = shares / shares.sum()
        self._shares[present] = shares * self._shares[present].sum()
        update = torch.zeros_like(data[0])
        for task, share in zip(present, shares.tolist()):
            update.add_(data[task], alpha=share)
        return update.to(G.dtype), None

    def state_dict(self) -> dict[str, Any]:
        """Return the buffer, empty before the first call, the weights and the count."""
        buffer = torch.zeros(0, 0) if self._buffer.data is None else self._buffer.data.clone()
        return dict(buffer=buffer, shares=torch.from_numpy(self._shares.copy()), count=self._count)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the buffer, the weights and the count."""
        self._check_state(state, ('buffer', 'shares', 'count'))
        self._buffer.data = state['buffer'].clone() if state['buffer'].numel() else None
        self._shares = state['shares'].to('cpu', torch.float64).numpy().copy()
        self._count = int(state['count'])
        if self.tasks is None and len(self._shares):
            self.tasks = tuple(str(k) for k in range(len(self._shares)))
