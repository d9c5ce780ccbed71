"""The step strategies, as optimizer wrappers of MMEngine."""

from .ada_task import AdaTaskOptimWrapper
from .aggregation import GradientAggregationOptimWrapper
from .base import StepOptimWrapper
from .released import ReleasedTaskGroupOptimWrapper
from .samo import SAMOOptimWrapper
from .scheduled import PhasesOptimWrapper, ScheduledOptimWrapper, SwitchOptimWrapper
from .selective import SelectiveTaskGroupOptimWrapper
from .sharpness import SharpnessAwareOptimWrapper
from .son_goku import SonGokuOptimWrapper
from .weighted_sum import MultiTaskOptimWrapper

__all__ = [
    'AdaTaskOptimWrapper',
    'GradientAggregationOptimWrapper',
    'MultiTaskOptimWrapper',
    'PhasesOptimWrapper',
    'ReleasedTaskGroupOptimWrapper',
    'SAMOOptimWrapper',
    'ScheduledOptimWrapper',
    'SelectiveTaskGroupOptimWrapper',
    'SharpnessAwareOptimWrapper',
    'SonGokuOptimWrapper',
    'StepOptimWrapper',
    'SwitchOptimWrapper',
]
