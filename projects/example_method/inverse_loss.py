"""A loss weighting of one's own: every task counts by the inverse of its average loss."""

import torch

from mtl_plugins.engine.catalogue import MethodRow
from mtl_plugins.methods.facts import MethodFacts
from mtl_plugins.methods.weighting import Weighting
from mtl_plugins.registry import WEIGHTINGS


@WEIGHTINGS.register_module()
class InverseLoss(Weighting):
    """Weights ``w_k`` in proportion to ``1 / a_k``, where ``a_k`` is a moving average of the loss; their sum is K.

    Args:
        decay: Share of the past in the average, in [0, 1).
        tasks: As for every weighting.
    """

    facts = MethodFacts('Weights by inverse average losses', paper='none: an example', verified='definition')

    def __init__(self, decay=0.9, tasks=None):
        if not 0 <= decay < 1:
            raise ValueError(f'InverseLoss: decay must lie in [0, 1), but got {decay!r}')
        self.decay = decay
        super().__init__(tasks)

    def _start(self, num_tasks):
        return dict(average=torch.full((num_tasks,), float('nan'), dtype=torch.float64))

    def _next(self, losses, rows):
        old = self._state['average'][rows]
        return torch.where(old.isnan(), losses, self.decay * old + (1 - self.decay) * losses)

    def _weights(self, losses, rows):
        inverse = 1 / self._next(losses, rows).clamp_min(1e-20)
        return len(losses) * inverse / inverse.sum()

    def _after_step(self, before, after, rows):
        self._state['average'][rows] = self._next(before, rows)


ROW = MethodRow('inverse_loss', 'loss weighting', 'MultiTaskOptimWrapper', ('InverseLoss',))
