"""How a training step is taken: strategies, precision, ranks, checkpoints, hooks."""

from . import hooks, methods, optim_wrappers  # noqa: F401  (importing registers)
from .closure import TaskClosure
from .losses import TaskLosses
from .nonfinite import NonFiniteError
from .optim_wrappers import (
    MultiTaskOptimWrapper,
    ReleasedTaskGroupOptimWrapper,
    SelectiveTaskGroupOptimWrapper,
    StepOptimWrapper,
)

__all__ = [
    'MultiTaskOptimWrapper',
    'NonFiniteError',
    'ReleasedTaskGroupOptimWrapper',
    'SelectiveTaskGroupOptimWrapper',
    'StepOptimWrapper',
    'TaskClosure',
    'TaskLosses',
]
