"""What keeps a run alive and tells how it goes; no hook knows a method."""

from mtl_plugins.methods.exports import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        'compiling': 'CompileHook',
        'due_validation': 'DueValidationHook',
        'environment': 'EnvironmentStampHook',
        'histories': 'HistoriesHook',
        'load_report': 'LoadReportHook',
        'memory_format': 'ChannelsLastHook',
        'metrics_file': 'MetricsFileHook',
        'outputs': 'OutputsHook',
        'plain_state': 'PlainStateHook',
        'preemption': 'EXIT_PREEMPTED PreemptionHook TrainingPreempted',
        'progress': 'RichProgressHook',
        'rank_check': 'RankMismatchError RankSyncCheckHook',
        'rng_state': 'RNGStateHook',
        'safe_checkpoint': 'SafeCheckpointHook',
        'start_record': 'StartRecordHook',
        'target_check': 'TargetCheckHook',
    },
)
