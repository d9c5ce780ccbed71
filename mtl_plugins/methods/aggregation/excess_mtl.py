"""Weights from estimated excess risks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import RowAggregator
from .buffers import TaskBuffer
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
    gives_weights = True
    shardable = True

    def __init__(self, eta: float = 0.01, tasks: Sequence[str] | int | None = None) -> None:
        if not eta >= 0:
            raise ValueError(f'ExcessMTL: eta must be >= 0, but got {eta}')
        self._squares = TaskBuffer('ExcessMTL')
        self._first = torch.zeros(0, dtype=torch.float64)
        self._logits = torch.zeros(0, dtype=torch.float64)
        super().__init__(tasks)
        self.buffer = self._squares
        self.eta = float(eta)

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order that ``task_ids`` counts (or their number); the state restarts."""
        super().bind(tasks)
        self._squares.data = None
        self._first = torch.zeros(len(self.tasks), dtype=torch.float64)  # 0 until the task was present
        self._logits = torch.zeros(len(self.tasks), dtype=torch.float64)

    def _combine(
        self,
        G: Tensor,
        norms: Tensor,
        losses: Tensor | None,
        generator: torch.Generator | None,
        ids: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        sums = self._squares.rows_for(len(self.tasks), G)
        excess = torch.zeros(len(ids), dtype=torch.float64, device=G.device)
        for row, task in enumerate(ids.tolist()):
            for block in column_blocks(G):
                square = G[row, block].to(sums.dtype).square()
                sums[task, block] += square
                excess[row] += (square / (sums[task, block] + 1e-7).sqrt()).sum(dtype=torch.float64)
        excess = self.part.sum(excess).cpu()
        fresh = self._first[ids] == 0
        self.fallbacks += int((fresh & (excess == 0)).any())
        start = torch.where(excess > 0, excess, torch.ones_like(excess))
        self._first[ids] = torch.where(fresh, start, self._first[ids])
        self._logits[ids] += self.eta * excess / self._first[ids]
        weights = len(ids) * torch.softmax(self._logits[ids], 0)
        return weighted_sum(G, weights), weights

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, empty before the first call, the first estimates and the logarithms of the weights."""
        squares = torch.zeros(0, 0) if self._squares.data is None else self._squares.data.clone()
        return dict(squares=squares, first=self._first.clone(), logits=self._logits.clone())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums, the first estimates and the logarithms of the weights."""
        self._check_state(state, ('squares', 'first', 'logits'))
        self._squares.data = state['squares'].clone() if state['squares'].numel() else None
        self._first = state['first'].to('cpu', torch.float64).clone()
        self._logits = state['logits'].to('cpu', torch.float64).clone()
        if self.tasks is None and len(self._logits):
            self.tasks = tuple(str(k) for k in range(len(self._logits)))
