"""Groupers: from an affinity map to a partition of the tasks."""

from .affinity_propagation import AffinityPropagation
from .all_tasks import AllTasks
from .base import Grouper, SimilarityGrouper
from .fixed import Fixed
from .positive_affinity import PositiveAffinity
from .random import Random
from .released import Released
from .singletons import Singletons

__all__ = [
    'AffinityPropagation',
    'AllTasks',
    'Fixed',
    'Grouper',
    'PositiveAffinity',
    'Random',
    'Released',
    'SimilarityGrouper',
    'Singletons',
]
