# The released program's step, and its heads that learn 4 times as fast (number of tasks); no other config does that.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/nyud-448x576.py',
    '../_base_/models/vit-tiny_nyud-448x576.py',
    '../_base_/schedules/adam_40k.py',
    '../_base_/methods/stgu_released.py',
]
optim_wrapper = dict(
    optimizer=_base_.optimizer,
    paramwise_cfg=dict(custom_keys=dict(heads=dict(lr_mult=4.0))),
)
default_hooks = dict(checkpoint=dict(interval=5000))
