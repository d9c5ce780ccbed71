default_scope = 'mtl_plugins'

default_hooks = dict(
    runtime_info=dict(type='RuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mtl_plugins.SafeCheckpointHook', by_epoch=False, interval=500, max_keep_ckpts=2),
    load_report=dict(type='mtl_plugins.LoadReportHook', mismatch='raise'),
    target_check=dict(type='mtl_plugins.TargetCheckHook', differing='raise'),
    histories=dict(type='mtl_plugins.HistoriesHook'),
)
custom_hooks = [
    dict(type='mtl_plugins.EnvironmentStampHook'),
    dict(type='mtl_plugins.RNGStateHook'),
    dict(type='mtl_plugins.PreemptionHook'),
    dict(type='mtl_plugins.RankSyncCheckHook', interval=500),
    dict(type='mtl_plugins.EpochLengthHook'),
    dict(type='mtl_plugins.CostHook'),
    dict(type='mtl_plugins.MetricsFileHook'),
    dict(type='mtl_plugins.AffinityHook', interval=10),
    dict(type='mtl_plugins.DominanceHook', interval=50),
    dict(type='mtl_plugins.PredictionPanelHook', num_panels=6),
    dict(type='mtl_plugins.RichProgressHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)
log_processor = dict(by_epoch=False, window_size=50)
log_level = 'INFO'
load_from = None
resume = False
