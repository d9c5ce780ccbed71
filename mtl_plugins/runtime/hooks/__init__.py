"""What keeps a run alive and tells how it goes; no hook knows a method."""

from .compiling import CompileHook
from .due_validation import DueValidationHook
from .environment import EnvironmentStampHook
from .histories import HistoriesHook
from .load_report import LoadReportHook
from .metrics_file import MetricsFileHook
from .outputs import OutputsHook
from .plain_state import PlainStateHook
from .preemption import EXIT_PREEMPTED, PreemptionHook, TrainingPreempted
from .progress import RichProgressHook
from .rank_check import RankMismatchError, RankSyncCheckHook
from .rng_state import RNGStateHook
from .safe_checkpoint import SafeCheckpointHook
from .start_record import StartRecordHook
from .target_check import TargetCheckHook

__all__ = [
    'EXIT_PREEMPTED',
    'CompileHook',
    'DueValidationHook',
    'EnvironmentStampHook',
    'HistoriesHook',
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
    'StartRecordHook',
    'TargetCheckHook',
    'TrainingPreempted',
]
