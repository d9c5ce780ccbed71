"""The step strategies, as optimizer wrappers of MMEngine."""

from .base import StepOptimWrapper
from .released import ReleasedTaskGroupOptimWrapper
from .selective import SelectiveTaskGroupOptimWrapper
from .weighted_sum import MultiTaskOptimWrapper

__all__ = [
    'MultiTaskOptimWrapper',
    'ReleasedTaskGroupOptimWrapper',
    'SelectiveTaskGroupOptimWrapper',
    'StepOptimWrapper',
]
