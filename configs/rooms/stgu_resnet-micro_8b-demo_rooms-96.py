# What `make demo` trains: a few minutes on two CPU cores.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/rooms-96.py',
    '../_base_/models/resnet-micro_rooms-96.py',
    '../_base_/schedules/adam_2k.py',
    '../_base_/methods/stgu.py',
]

max_iters = 500
optimizer = dict(lr=2e-3)
optim_wrapper = dict(
    optimizer=_base_.optimizer | dict(lr=2e-3),
    # The affinity must settle within a few hundred batches instead of tens of thousands.
    affinity=dict(decay=0.02),
    warmup_iters=40,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=30, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=250)
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
default_hooks = dict(checkpoint=dict(interval=250))
# Each task trained alone with the same settings; tools/analysis/single_task_baselines.py writes the file.
val_evaluator = dict(baselines='{{ fileDirname }}/baselines_rooms-96-demo.json')
test_evaluator = dict(baselines='{{ fileDirname }}/baselines_rooms-96-demo.json')
