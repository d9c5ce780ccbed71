"""Hooks for observation and for the safety of runs; none of them is part of a method."""

from .affinity import AffinityHook
from .cost import CostHook
from .environment import EnvironmentStampHook
from .metrics_file import MetricsFileHook
from .preemption import EXIT_PREEMPTED, PreemptionHook, TrainingPreempted
from .progress import RichProgressHook
from .rank_check import RankMismatchError, RankSyncCheckHook
from .rng_state import RNGStateHook
from .safe_checkpoint import PlainStateHook, SafeCheckpointHook

__all__ = [
    'EXIT_PREEMPTED',
    'AffinityHook',
    'CostHook',
    'EnvironmentStampHook',
    'MetricsFileHook',
    'PlainStateHook',
    'PreemptionHook',
    'RNGStateHook',
    'RankMismatchError',
    'RankSyncCheckHook',
    'RichProgressHook',
    'SafeCheckpointHook',
    'TrainingPreempted',
]
