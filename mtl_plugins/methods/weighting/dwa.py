"""Dynamic weight average."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, check_choice, check_number
from .epoch_means import EpochMeans

WINDOW_STARTS = ('wait', 'ones')
LARGEST_RATIO = 1e100


class DWA(Weighting):
    r"""Gives more weight to tasks whose loss goes down more slowly.

    :math:`w = K\,\mathrm{softmax}(r / T)` with :math:`r_k = \bar L_k(t - 1) / \bar L_k(t - 2)`, the ratio of the mean
    losses of the last two epochs. All weights are 1 in the first two epochs. A task has :math:`r_k = 1` as long as it
    has not been seen in two epochs; an epoch without it leaves its ratio alone.

    Source: Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, arXiv 1803.10704.

    LibMTL and TorchJD average over epochs, as the paper does. nash-mtl and SamsungLabs/MTL take the last 25 iterations,
    the current one included, over the 25 before them: ``window=25``. Their buffer holds ones at first, and is used from
    the 27th iteration on, so that for 24 iterations the weights compare losses with ones; ``window_start='ones'`` does
    so too, ``'wait'`` keeps the weights at 1 until a task has been seen in ``2 * window`` iterations. They also divide
    the weighted sum by K, which is a matter of the learning rate.

    Args:
        temperature: :math:`T`; larger is more even.
        window: Iterations per mean; None for epochs, whose length :meth:`set_epoch_length` has to tell. With a window
            the weights depend on the batch itself.
        window_start: ``'wait'`` or ``'ones'``.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range.
    """

    facts = MethodFacts(
        'Dynamic weight average',
        paper='Liu, Johns and Davison, CVPR 2019',
        arxiv='1803.10704',
        verified='epochs: vectors of TorchJD, LibMTL; window: nash-mtl',
    )

    def __init__(
        self,
        temperature: float = 2.0,
        window: int | None = None,
        window_start: str = 'wait',
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        check_number(self, 'temperature', temperature, 0, open_low=True)
        if window is not None and (not isinstance(window, int) or window < 1):
            raise ValueError(f'DWA: window must be an integer >= 1 or None, but got {window!r}')
        check_choice(self, 'window_start', window_start, WINDOW_STARTS)
        self.temperature = temperature
        self.window = window
        self.window_start = window_start
        self.looks_at_losses = window is not None
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        if self.window is None:
            unknown = torch.full((num_tasks,), float('nan'), dtype=torch.float64)
            return dict(last_mean=unknown, mean_before=unknown.clone(), **EpochMeans.start(num_tasks))
        history = torch.ones(num_tasks, 2 * self.window, dtype=torch.float64)
        return dict(history=history, count=torch.zeros(num_tasks, dtype=torch.long))

    def _ratios(self, losses: Tensor, rows: Tensor) -> Tensor:
        """Later mean over earlier mean of the present tasks, 1 where it is not known."""
        if self.window is None:
            later, earlier = self._state['last_mean'][rows], self._state['mean_before'][rows]
            known = ~(later + earlier).isnan()
        else:
            history = self._next_history(losses, rows)
            earlier, later = history[:, : self.window].mean(dim=1), history[:, self.window :].mean(dim=1)
            needed = self.window + 1 if self.window_start == 'ones' else 2 * self.window - 1
            known = self._state['count'][rows] >= needed
        known &= (earlier > 0) & (later >= 0)
        ratio = torch.where(known, later, 1.0) / torch.where(known, earlier, 1.0)
        return ratio.clamp_max(LARGEST_RATIO)

    def _next_history(self, losses: Tensor, rows: Tensor) -> Tensor:
        return torch.cat([self._state['history'][rows, 1:], losses[:, None]], dim=1)

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        return len(losses) * torch.softmax(self._ratios(losses, rows) / self.temperature, dim=0)

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        state = self._state
        if self.window is not None:
            state['history'][rows] = self._next_history(before, rows)
            state['count'][rows] += 1
            return
        means = EpochMeans.add(self, state, before, rows)
        if means is not None:
            seen = ~means.isnan()
            state['mean_before'] = torch.where(seen, state['last_mean'], state['mean_before'])
            state['last_mean'] = torch.where(seen, means, state['last_mean'])
