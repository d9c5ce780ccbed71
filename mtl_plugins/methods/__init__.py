"""The multi-task methods as pure mathematics: tensors in, tensors out.

Nothing here knows a model, a trainer, a process group or MMEngine, and no function touches a global random state, so
every method can be used in any training loop and be tested on plain tensors. How a training step makes use of them is
the business of :mod:`mtl_plugins.engine`.
"""

from importlib import import_module
from typing import Any

from .exports import on_demand

_FOLDERS = ('aggregation', 'grouping', 'weighting')
_CATALOGUE = ('MethodRow', 'StepCost', 'format_catalogue', 'get_method', 'list_methods')
_single, _names = on_demand(
    __name__,
    {
        'affinity': 'ProximalAffinity ReleasedAffinity',
        'facts': 'MethodFacts',
        'gradient_cosine': 'GradientCosine',
        'similarity': 'normalised_similarity released_similarity',
        'task_groups': 'TaskGrouping solve_ptg solve_tag',
    },
)


def __getattr__(name: str) -> Any:
    # The catalogue says what a step costs as well, so that the engine assembles it; loaded when someone asks.
    if name in _CATALOGUE:
        return getattr(import_module(f'{__package__.rpartition(".")[0]}.engine.catalogue'), name)
    if name in _FOLDERS:
        return import_module(f'{__name__}.{name}')
    if name in _names:
        return _single(name)
    folders = [import_module(f'{__name__}.{folder}') for folder in _FOLDERS]
    if name == '__all__':
        return [*_names, *(exported for folder in folders for exported in folder.__all__)]
    return getattr(next((folder for folder in folders if name in folder.__all__), folders[0]), name)
