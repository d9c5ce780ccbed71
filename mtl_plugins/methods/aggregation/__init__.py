"""Aggregators: from the gradients of the tasks to one update."""

from .base import Aggregator, RowAggregator
from .gramian import GramianAggregator
from .mgda import MGDA
from .pcgrad import PCGrad
from .sums import Mean, Sum

__all__ = ['MGDA', 'Aggregator', 'GramianAggregator', 'Mean', 'PCGrad', 'RowAggregator', 'Sum']
