"""Weights of another method, smoothed over time."""

from collections.abc import Sequence

import numpy as np
import torch

from mtl_plugins.methods.facts import MethodFacts

from .gramian import GramianAggregator, Products
from .mgda import MGDA


class CRMOGM(GramianAggregator):
    """A moving average of the weights that another method gives: w <- alpha w + (1 - alpha) w_now, u = sum_k w_k g_k.

    A task's average starts with the first weight that it is given. Weights of single batches are noisy, and correlated
    with the gradients that they multiply; the average is less of both.

    Paper: Zhou and others, On the Convergence of Stochastic Multi-Objective Gradient Manipulation and Beyond, NeurIPS
    2022. Scale, heads and needs are those of the method inside. Stateful: K weights, and its state.
    The paper lets alpha grow as the learning rate falls (its corollary 1, as TorchJD cites it); here it is fixed, as
    in TorchJD by default. A promise not to conflict does not outlive the average.

    Where we differ from public code: a task that is absent, or whose row is zero, keeps its average (TorchJD refuses
    another number of tasks, and a row of zeros has a weight). Fall-backs are those of the method inside.

    Args:
        aggregator: The method inside, one whose weights follow from the products of the rows; None for :class:`MGDA`.
        alpha: Share of the past, from 0 (none) to 1 (the first weights for ever).
        tasks: As for :class:`Aggregator`.

    Raises:
        ValueError: If ``alpha`` is out of range or the method inside needs the rows themselves.
    """

    facts = MethodFacts(
        'Smoothed weights of a multi-objective method, of MGDA',
        paper='Zhou et al., NeurIPS 2022',
        verified='TorchJD 0.18, to 1e-6',
    )
    stateful = True
    STATE = dict(average='_average', aggregator='aggregator')

    def __init__(
        self,
        aggregator: GramianAggregator | None = None,
        alpha: float = 0.9,
        tasks: Sequence[str] | int | None = None,
    ) -> None:
        inner = MGDA() if aggregator is None else aggregator
        if not isinstance(inner, GramianAggregator):
            raise ValueError(
                'CRMOGM: aggregator must be a method whose weights follow from the products of the rows, such as MGDA '
                f'or UPGrad, but got {inner!r}'
            )
        if not 0 <= alpha <= 1:
            raise ValueError(f'CRMOGM: alpha must lie between 0 and 1, but got {alpha}')
        self.aggregator, self.alpha = inner, float(alpha)
        for name in ('scale', 'heads', 'features_level', 'needs_losses', 'needs_generator', 'equivariant'):
            setattr(self, name, getattr(inner, name))
        super().__init__(tasks)

    def bind(self, tasks: Sequence[str] | int) -> None:
        """Tell the names of the tasks, in the order that ``task_ids`` counts (or their number); the state restarts."""
        super().bind(tasks)
        self.aggregator.bind(self.tasks)

    def _start(self, num_tasks: int) -> None:
        self._average = np.full(num_tasks, np.nan)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the classes that it is made of."""
        return (*super().parts, *self.aggregator.parts)

    @property
    def note(self) -> str:
        """What the method inside has to say, too."""
        return ', '.join(filter(None, [self.aggregator.note, super().note]))

    def _only_weight(self, rows: Products) -> np.ndarray:
        return self.aggregator._only_weight(rows)

    def _weights(self, rows: Products) -> np.ndarray:
        losses = None if rows.losses is None else torch.from_numpy(rows.losses)
        counted = self.aggregator.fallbacks
        now = self.aggregator.weights(torch.from_numpy(rows.gram), losses, rows.generator, torch.from_numpy(rows.ids))
        self.fallbacks += self.aggregator.fallbacks - counted
        last = self._average[rows.ids]
        weights = np.where(np.isnan(last), now, self.alpha * last + (1 - self.alpha) * now.numpy())
        self._average[rows.ids] = weights
        return weights
