"""A gradient aggregator of one's own: every task's gradient is made equally long."""

import numpy as np

from mtl_plugins.methods import GramianAggregator
from mtl_plugins.registry import AGGREGATORS


@AGGREGATORS.register_module()
class EvenRows(GramianAggregator):
    """Sum of the rows, each scaled to the geometric mean of their lengths d: ``u = sum_k (d_mean / d_k) g_k``.

    Args:
        limit: No row is scaled by more than this factor, up or down.
        tasks: As for every aggregator.
    """

    scale = 'sum'  # what equal rows give: K times the row, so the wrapper has nothing to rescale

    def __init__(self, limit=100.0, tasks=None):
        if not limit >= 1:
            raise ValueError(f'EvenRows.limit must be 1 or more, but got {limit!r}')
        self.limit = limit
        super().__init__(tasks)

    def _weights(self, rows):
        factors = np.exp(np.log(rows.norms).mean()) / rows.norms
        return factors.clip(1 / self.limit, self.limit)
