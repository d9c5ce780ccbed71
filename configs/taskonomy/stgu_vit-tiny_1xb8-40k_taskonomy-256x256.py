_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/taskonomy-256x256.py',
    '../_base_/models/vit-tiny_taskonomy-256x256.py',
    '../_base_/schedules/adam_40k.py',
    '../_base_/methods/stgu.py',
]
optim_wrapper = dict(optimizer=_base_.optimizer, affinity=dict(decay=1e-4))
default_hooks = dict(checkpoint=dict(interval=5000))
