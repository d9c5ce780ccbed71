"""The multi-task methods as pure mathematics: tensors in, tensors out.

Nothing here knows a model, a trainer, a process group or MMEngine, and no function touches a global random state, so
every method can be used in any training loop and be tested on plain tensors. How a training step makes use of them is
the business of :mod:`mtl_plugins.engine`.
"""

from importlib import import_module
from typing import Any

from . import aggregation, grouping, weighting
from .affinity import ProximalAffinity, ReleasedAffinity
from .aggregation import *  # noqa: F403
from .facts import MethodFacts
from .gradient_cosine import GradientCosine
from .grouping import *  # noqa: F403
from .similarity import normalised_similarity, released_similarity
from .task_groups import TaskGrouping, solve_ptg, solve_tag
from .weighting import *  # noqa: F403

__all__ = [
    *aggregation.__all__,
    *grouping.__all__,
    *weighting.__all__,
    'GradientCosine',
    'MethodFacts',
    'ProximalAffinity',
    'ReleasedAffinity',
    'TaskGrouping',
    'normalised_similarity',
    'released_similarity',
    'solve_ptg',
    'solve_tag',
]

_CATALOGUE = ('MethodRow', 'StepCost', 'format_catalogue', 'get_method', 'list_methods')


def __getattr__(name: str) -> Any:
    # The catalogue says what a step costs as well, so that the engine assembles it; loaded when someone asks.
    if name in _CATALOGUE:
        return getattr(import_module(f'{__package__.rpartition(".")[0]}.engine.catalogue'), name)
    raise AttributeError(f'module {__name__} has no attribute {name!r}')
