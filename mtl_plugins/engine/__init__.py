"""How a training step is taken: strategies, precision, ranks, checkpoints, hooks."""

from . import hooks, methods, optim_wrappers  # noqa: F401  (importing registers)
from .optim_wrappers import (
    MultiTaskOptimWrapper,
    ReleasedTaskGroupOptimWrapper,
    SelectiveTaskGroupOptimWrapper,
    StepOptimWrapper,
)
from .step.closure import TaskClosure
from .step.losses import TaskLosses
from .step.nonfinite import NonFiniteError

__all__ = [
    'MultiTaskOptimWrapper',
    'NonFiniteError',
    'ReleasedTaskGroupOptimWrapper',
    'SelectiveTaskGroupOptimWrapper',
    'StepOptimWrapper',
    'TaskClosure',
    'TaskLosses',
]
