# The sum of all losses. One task alone, for the single-task row of a table: --tasks depth_euclidean
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/taskonomy-256x256.py',
    '../_base_/models/vit-tiny_taskonomy-256x256.py',
    '../_base_/schedules/adam_40k.py',
    '../_base_/methods/gd.py',
]
optim_wrapper = dict(optimizer=_base_.optimizer)
default_hooks = dict(checkpoint=dict(interval=5000))
