"""Hooks for observation and for the safety of runs; none of them is part of a method."""

from .affinity import AffinityHook
from .class_weights import ClassWeightHook
from .conflicts import GradientConflictHook
from .cost import CostHook
from .dominance import DominanceHook
from .due_validation import DueValidationHook
from .environment import EnvironmentStampHook
from .epoch_length import EpochLengthHook
from .load_report import LoadReportHook
from .metrics_file import MetricsFileHook
from .outputs import OutputsHook
from .plain_state import PlainStateHook
from .preemption import EXIT_PREEMPTED, PreemptionHook, TrainingPreempted
from .progress import RichProgressHook
from .rank_check import RankMismatchError, RankSyncCheckHook
from .rng_state import RNGStateHook
from .safe_checkpoint import SafeCheckpointHook
from .target_check import TargetCheckHook
from .task_kpi import TaskKPIHook

__all__ = [
    'EXIT_PREEMPTED',
    'AffinityHook',
    'ClassWeightHook',
    'CostHook',
    'DominanceHook',
    'DueValidationHook',
    'EnvironmentStampHook',
    'EpochLengthHook',
    'GradientConflictHook',
    'LoadReportHook',
    'MetricsFileHook',
    'OutputsHook',
    'PlainStateHook',
    'PreemptionHook',
    'RNGStateHook',
    'RankMismatchError',
    'RankSyncCheckHook',
    'RichProgressHook',
    'SafeCheckpointHook',
    'TargetCheckHook',
    'TaskKPIHook',
    'TrainingPreempted',
]
