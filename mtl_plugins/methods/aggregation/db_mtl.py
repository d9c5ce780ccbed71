"""Dual balancing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import RowAggregator
from .rows import FACTORS, LENGTHS, narrowed, within


class DBMTL(RowAggregator):
    """Gradients of the logarithms of the losses, smoothed over time, all as long as the longest.

    h_k = g_k / (L_k + 1e-8), the gradient of log(L_k + 1e-8); b_k <- h_k + beta / t^sigma (b_k - h_k), from b = 0, with
    the number t of updates of the task; u = sum_k (max_j |b_j| / |b_k|) b_k.

    Paper: Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Kwok, Dual-Balancing for Multi-Task Learning, arXiv 2308.12029.
    Scale ``'raw'``. Own parameters of a task get the gradient of the logarithm, see :meth:`head_weights`. Stateful: a
    buffer of 4 K D bytes and the counts. Coordinates are needed.

    Where we differ from public code: LibMTL adds 1e-8 to |b_k| and counts batches, not updates of the task, which is
    the same if no task is ever absent. The buffer starts at zero as there, so that the first update is (1 - beta) times
    a full one. Fall-back, counted: a loss below zero counts as zero.

    Args:
        beta: Weight of the past, from 0 to below 1.
        beta_sigma: Exponent with which it fades.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Dual balancing',
        paper='Lin et al.',
        arxiv='2308.12029',
        verified='vectors of LibMTL',
        one_task='its gradient is that of the logarithm of the loss, smoothed over time',
    )
    needs_losses = True
    stateful = True
    keeps_gradients = True
    STATE = dict(buffer='buffer', counts='_counts')
    shardable = True

    def __init__(
        self,
        beta: float = 0.9,
        beta_sigma: float = 0.0,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        if not 0 <= beta < 1:
            raise ValueError(f'DBMTL: beta must be at least 0 and below 1, but got {beta}')
        if not beta_sigma >= 0:
            raise ValueError(f'DBMTL: beta_sigma must be >= 0, but got {beta_sigma}')
        super().__init__(tasks)
        self.beta = float(beta)
        self.beta_sigma = float(beta_sigma)

    def _start(self, num_tasks: int) -> None:
        self._counts = [0] * num_tasks

    def head_weights(self, weights: Tensor | None, losses: Tensor | None = None) -> Tensor | None:
        """Return 1 / (L_k + 1e-8): own parameters follow the gradient of log(L_k + 1e-8)."""
        if losses is None:
            raise ValueError('DBMTL: the gradients of own parameters need the losses')
        return 1 / (losses.detach().to('cpu', torch.float64).clamp_min(0) + 1e-8)

    def _combine(
        self,
        G: Tensor,
        norms: Tensor,
        losses: Tensor | None,
        generator: torch.Generator | None,
        ids: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        self.fallbacks += int((losses < 0).any())
        factors = self.head_weights(None, losses).tolist()
        data = self.buffer.rows_for(len(self.tasks), G)
        lengths = []
        for row, (task, factor) in enumerate(zip(ids.tolist(), factors)):
            self._counts[task] += 1
            keep = self.beta / self._counts[task] ** self.beta_sigma
            data[task].mul_(keep).add_(G[row], alpha=(1 - keep) * factor)
            lengths.append(torch.linalg.vector_norm(data[task], dtype=torch.float64).cpu())
        sizes = self.part.lengths(torch.stack(lengths))
        stretch = torch.where(sizes > 0, sizes.max() / sizes, 0.0)
        safe = within(LENGTHS, sizes) and within(FACTORS, stretch)
        update = torch.zeros_like(data[0], dtype=data.dtype if safe else torch.float64)
        for task, factor in zip(ids.tolist(), stretch.tolist()):
            update.add_(data[task], alpha=factor)
        return narrowed(update, G.dtype), None
