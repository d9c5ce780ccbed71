"""Scaled loss approximate weighting."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_plugins.methods.facts import MethodFacts

from .base import State, Weighting, check_number, to_sum


class SLAW(Weighting):
    r"""Weighs a task by the inverse of how much its loss fluctuates, as a cheap stand-in for its gradient norm.

    :math:`\sigma_k` is the running standard deviation of :math:`L_k`, the current loss included, and
    :math:`w_k = K \sigma_k^{-1} / \sum_j \sigma_j^{-1}`. The first :math:`1 / (1 - \beta)` losses are averaged plainly,
    the following ones exponentially with the decay :math:`\beta`. A task has weight 1 until its second loss.

    Source: Crawshaw and Kosecka, "SLAW: Scaled Loss Approximate Weighting for Efficient Multi-Task Learning",
    arXiv 2109.08218.

    The authors' program takes the difference of the means of :math:`L^2` and :math:`L`, which rounding can make
    negative, and keeps the old weights then; here the variance is tracked directly, :math:`v \leftarrow \beta (v +
    (1 - \beta) (L - b)^2)`, which is the same number without the cancellation. And its lower bound of
    :math:`\sigma_k` is 1e-5 whatever the scale of the loss; here it is 1e-5 times the mean loss.

    Args:
        decay: Share :math:`\beta` of the past in the averages, in [0, 1).
        eps: Lower bound of :math:`\sigma_k` in units of the mean loss.
        tasks: Task names in the order of the K losses, or their number; None if :meth:`bind` tells them later.

    Raises:
        ValueError: If an argument is out of range.
    """

    facts = MethodFacts(
        'Scaled loss approximate weighting',
        paper='Crawshaw and Kosecka',
        arxiv='2109.08218',
        verified="130 steps of the authors' program",
    )

    def __init__(self, decay: float = 0.99, eps: float = 1e-5, tasks: Sequence[str] | int | None = None) -> None:
        check_number(self, 'decay', decay, 0, 1 - 1e-9)
        check_number(self, 'eps', eps, 0, open_low=True)
        self.decay = decay
        self.eps = eps
        self._plain = round(1 / (1 - decay))
        super().__init__(tasks)

    def _start(self, num_tasks: int) -> State:
        zeros = torch.zeros(num_tasks, dtype=torch.float64)
        return dict(mean=zeros, variance=zeros.clone(), count=torch.zeros(num_tasks, dtype=torch.long))

    def _next(self, losses: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and count of the present tasks with these losses included."""
        mean, variance, count = (self._state[name][rows] for name in ('mean', 'variance', 'count'))
        past = torch.where(count < self._plain, count / (count + 1), self.decay)
        distance = losses - mean
        return past * mean + (1 - past) * losses, past * (variance + (1 - past) * distance.square()), count + 1

    def _weights(self, losses: Tensor, rows: Tensor) -> Tensor:
        mean, variance, count = self._next(losses, rows)
        deviation = torch.maximum(variance.sqrt(), self.eps * mean.abs()).clamp_min(1e-100)
        weights = torch.ones_like(losses)
        known = count >= 2
        if bool(known.any()):
            weights[known] = to_sum(1 / deviation[known])
        return weights

    def _after_step(self, before: Tensor, after: Tensor | None, rows: Tensor) -> None:
        mean, variance, count = self._next(before, rows)
        self._state['mean'][rows], self._state['variance'][rows], self._state['count'][rows] = mean, variance, count
