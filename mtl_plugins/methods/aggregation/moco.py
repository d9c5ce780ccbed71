"""Multi-objective gradient correction."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import RowAggregator
from .rows import gramian
from .shares import equal_shares, shares_among


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
    keeps_gradients = True
    STATE = dict(buffer='buffer', shares='_shares', count='_count')
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
        super().__init__(tasks)
        self.beta, self.beta_sigma = float(beta), float(beta_sigma)
        self.gamma, self.gamma_sigma = float(gamma), float(gamma_sigma)
        self.rho = float(rho)

    def _start(self, num_tasks: int) -> None:
        self._shares = equal_shares(num_tasks)
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
        data = self.buffer.rows_for(len(self.tasks), G)
        present = ids.tolist()
        for row, (task, factor) in enumerate(zip(present, (losses / norms).tolist())):
            data[task].mul_(1 - pace).add_(G[row], alpha=pace * factor)
        held = data if present == list(range(len(data))) else data[present]
        products = self.part.sum(gramian(held)).numpy()
        part, shares = shares_among(self._shares, present)
        gamma = self.gamma / self._count**self.gamma_sigma
        shares = shares - gamma * (products @ shares + self.rho * shares)
        shares = np.exp(shares - shares.max())
        shares = shares / shares.sum()
        self._shares[present] = shares * part
        update = torch.zeros_like(data[0])
        for task, share in zip(present, shares.tolist()):
            update.add_(data[task], alpha=share)
        return update.to(G.dtype), None
