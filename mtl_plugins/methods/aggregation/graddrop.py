"""Gradient sign dropout."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.naming import check_known

from .base import RowAggregator
from .rows import column_blocks


class GradDrop(RowAggregator):
    """Per coordinate, keeps the gradients of one sign only, drawn by how much the tasks agree.

    P = (1 + sum_k g_k / sum_k |g_k|) / 2 and U uniform in [0, 1), per coordinate; M_k = 1 where P > U and g_k > 0 or
    P <= U and g_k < 0; u = sum_k (l_k + (1 - l_k) M_k) g_k with the leak l_k.

    Paper: Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov, Just Pick a Sign: Optimizing Deep Multitask Models
    with Gradient Sign Dropout, NeurIPS 2020, arXiv 2010.06808. Scale ``'sum'``; heads ``'sum'``. On parameters, P is
    as above (as in TorchJD and the FAMO repository); the paper forms it on features, from sign(feature) g summed over
    the batch. Coordinates are needed, products do not suffice.

    Where we differ from public code: nothing is added to the sum of |g|, coordinates where all rows are zero give zero
    (TorchJD: not a number). The draws depend on the generator alone, so that ranks with equal generators agree. There
    is no fall-back.

    Args:
        leak: Share of its gradient that a task keeps anyway, from 0 to 1: one number, or one per task name, 0 for a
            task that is not named.
        tasks: As for :class:`Aggregator`.
    """

    facts = MethodFacts(
        'Gradient sign dropout',
        paper='Chen et al., NeurIPS 2020',
        arxiv='2010.06808',
        verified='probabilities of keeping; no vectors',
    )
    scale = 'sum'
    features_level = True
    needs_generator = True
    shardable = True

    def __init__(
        self,
        leak: float | Mapping[str, float] = 0.0,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        for value in leak.values() if isinstance(leak, Mapping) else (leak,):
            if not 0 <= value <= 1:
                raise ValueError(f'GradDrop: leak must lie between 0 and 1, but got {value}')
        self.leak = leak
        self.per_task = isinstance(leak, Mapping)
        super().__init__(tasks)

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order that ``task_ids`` counts (or their number).

        Raises:
            ValueError: If a leak names an unknown task.
        """
        super().bind(tasks)
        check_known('GradDrop', 'leak', self.leak if isinstance(self.leak, Mapping) else (), self.tasks)

    def _leaks(self, ids: Tensor) -> list[float]:
        if not isinstance(self.leak, Mapping):
            return [float(self.leak)] * len(ids)
        return [float(self.leak.get(self.tasks[k], 0)) for k in ids.tolist()]

    def _combine(
        self,
        G: Tensor,
        norms: Tensor,
        losses: Tensor | None,
        generator: torch.Generator | None,
        ids: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        if generator.device != G.device:  # drawing on the CPU for a GPU would take longer than all the rest
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
            generator = torch.Generator(device=G.device).manual_seed(seed)
        leaks = torch.tensor(self._leaks(ids), device=G.device)[:, None]
        update = G.new_empty(G.shape[1])
        working = G.dtype if G.dtype == torch.float64 else torch.float32
        start, width = self.part.start, self.part.width or G.shape[1]
        for whole in column_blocks(G, width):
            length = min(whole.stop, width) - whole.start
            draws = torch.rand(length, dtype=working, generator=generator, device=G.device)
            block = slice(max(whole.start - start, 0), max(whole.stop - start, 0))
            part = G[:, block].to(working)
            if not part.shape[1]:
                continue  # the draws of other parts, so that each gets its own
            total = part.sum(0)
            size = part.abs().sum(0)
            share = torch.where(size > 0, (1 + total / size.clamp_min(torch.finfo(size.dtype).tiny)) / 2, 0.5)
            first = block.start + start - whole.start
            draws = draws[first : first + len(share)]
            kept = torch.where(share > draws, part.clamp_min(0), part.clamp_max(0))
            update[block] = (leaks * part + (1 - leaks) * kept).sum(0) if leaks.any() else kept.sum(0)
        return update, None
