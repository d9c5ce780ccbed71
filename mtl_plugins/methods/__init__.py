"""The multi-task methods as pure mathematics: tensors in, tensors out.

Nothing here knows a model, a trainer, a process group or MMEngine, and no function touches a global random state, so
every method can be used in any training loop and be tested on plain tensors. How a training step makes use of them is
the business of :mod:`mtl_plugins.engine`.
"""

from .affinity import ProximalAffinity, ReleasedAffinity
from .catalogue import MethodRow, StepCost, format_catalogue, get_method, list_methods
from .grouping import (
    AffinityPropagation,
    AllTasks,
    Fixed,
    Grouper,
    PositiveAffinity,
    Random,
    Released,
    Singletons,
)
from .similarity import normalised_similarity, released_similarity
from .weighting import (
    BMTL,
    DTP,
    DWA,
    EMTL,
    FAMO,
    GLS,
    IMTLL,
    RLW,
    SLAW,
    STCH,
    EqualWeighting,
    GradNorm,
    UncertaintyWeighting,
    Weighting,
)

__all__ = [
    'BMTL',
    'DTP',
    'DWA',
    'EMTL',
    'FAMO',
    'GLS',
    'IMTLL',
    'RLW',
    'SLAW',
    'STCH',
    'AffinityPropagation',
    'AllTasks',
    'EqualWeighting',
    'Fixed',
    'GradNorm',
    'Grouper',
    'MethodRow',
    'PositiveAffinity',
    'ProximalAffinity',
    'Random',
    'Released',
    'ReleasedAffinity',
    'Singletons',
    'StepCost',
    'UncertaintyWeighting',
    'Weighting',
    'format_catalogue',
    'get_method',
    'list_methods',
    'normalised_similarity',
    'released_similarity',
]
