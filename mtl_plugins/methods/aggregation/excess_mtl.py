"""Weights from estimated excess risks."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import RowAggregator
from .rows import column_blocks, weighted_sum


class ExcessMTL(RowAggregator):
    """Gives more weight to tasks that are far from their optimum, by an estimate of the excess risk.

    S_k <- S_k + g_k^2 per coordinate; e_k = sum g_k^2 / sqrt(S_k + 1e-7), divided by its first value;
    w_k <- w_k exp(eta e_k), normalised to sum K; u = sum_k w_k g_k.

    Paper: He, Zhou, Zhang, Yun, Xu, Zeng, Chilimbi, Zhao, Robust Multi-Task Learning with Excess Risks, ICML 2024.
    Scale ``'sum'``; heads ``'weighted'``. Stateful: 4 K D bytes of sums, the first estimates and the logarithms of the
    weights. Coordinates are needed. The formulas are those of LibMTL (TorchJD normalises to sum 1); there is no frozen
    vector for it.

    Where we differ from public code: logarithms of weights are stored, so that they cannot overflow. Fall-back,
    counted: a first estimate that is zero in double precision counts as one.

    Args:
        eta: Pace of the weights, at least 0.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Weights from excess risks', paper='He et al., ICML 2024', verified='formula of LibMTL; no vectors'
    )
    scale = 'sum'
    heads = 'weighted'
    stateful = True
    keeps_gradients = True
    STATE = dict(squares='buffer', first='_first', logits='_logits')
    gives_weights = True
    shardable = True

    def __init__(self, eta: float = 0.01, tasks: Sequence[str] | int | None = None) -> None:
        if not eta >= 0:
            raise ValueError(f'ExcessMTL: eta must be >= 0, but got {eta}')
        super().__init__(tasks)
        self.eta = float(eta)

    def _start(self, num_tasks: int) -> None:
        self._first = np.zeros(num_tasks)  # 0 until the task was present
        self._logits = np.zeros(num_tasks)

    def _combine(
        self,
        G: Tensor,
        norms: Tensor,
        losses: Tensor | None,
        generator: torch.Generator | None,
        ids: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        sums = self.buffer.rows_for(len(self.tasks), G)
        excess = torch.zeros(len(ids), dtype=torch.float64, device=G.device)
        for row, task in enumerate(ids.tolist()):
            for block in column_blocks(G):
                square = G[row, block].to(sums.dtype).square()
                sums[task, block] += square
                excess[row] += (square / (sums[task, block] + 1e-7).sqrt()).sum(dtype=torch.float64)
        risks, tasks = self.part.sum(excess).cpu().numpy(), ids.numpy()
        fresh = self._first[tasks] == 0
        self.fallbacks += int((fresh & (risks == 0)).any())
        self._first[tasks] = np.where(fresh, np.where(risks > 0, risks, 1.0), self._first[tasks])
        self._logits[tasks] += self.eta * risks / self._first[tasks]
        weights = len(ids) * torch.softmax(torch.from_numpy(self._logits[tasks]), 0)
        return weighted_sum(G, weights), weights
