"""What watches tasks while they train; no hook is part of a method."""

from mtl_plugins.moved import names_from

from .affinity import AffinityHook
from .class_weights import ClassWeightHook
from .conflicts import GradientConflictHook
from .cost import CostHook
from .dominance import DominanceHook
from .epoch_length import EpochLengthHook
from .look_ahead import LookAheadHook
from .task_kpi import TaskKPIHook

__all__ = [
    'AffinityHook',
    'ClassWeightHook',
    'CostHook',
    'DominanceHook',
    'EpochLengthHook',
    'GradientConflictHook',
    'LookAheadHook',
    'TaskKPIHook',
]

__getattr__ = names_from('engine.hooks', 'runtime.hooks')
