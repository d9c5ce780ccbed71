"""The multi-task methods as pure mathematics: tensors in, tensors out.

Nothing here knows a model, a trainer, a process group or MMEngine, and no function touches a global random state, so
every method can be used in any training loop and be tested on plain tensors. How a training step makes use of them is
the business of :mod:`mtl_plugins.engine`.
"""

from . import aggregation, grouping, weighting
from .affinity import ProximalAffinity, ReleasedAffinity
from .aggregation import *  # noqa: F403
from .catalogue import MethodRow, StepCost, format_catalogue, get_method, list_methods
from .grouping import *  # noqa: F403
from .similarity import normalised_similarity, released_similarity
from .weighting import *  # noqa: F403

__all__ = [
    *aggregation.__all__,
    *grouping.__all__,
    *weighting.__all__,
    'MethodRow',
    'ProximalAffinity',
    'ReleasedAffinity',
    'StepCost',
    'format_catalogue',
    'get_method',
    'list_methods',
    'normalised_similarity',
    'released_similarity',
]
