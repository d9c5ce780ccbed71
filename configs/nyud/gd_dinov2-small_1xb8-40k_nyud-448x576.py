_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/nyud-448x576.py',
    '../_base_/models/dinov2-small_nyud-448x576.py',
    '../_base_/schedules/adam-1e-4_40k.py',
    '../_base_/methods/gd.py',
]
optim_wrapper = dict(optimizer=_base_.optimizer)
default_hooks = dict(checkpoint=dict(interval=5000))
