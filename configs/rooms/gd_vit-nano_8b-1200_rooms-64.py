_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/rooms-64.py',
    '../_base_/models/vit-nano_rooms-64.py',
    '../_base_/schedules/adam-2e-3_1200.py',
    '../_base_/methods/gd.py',
]
optim_wrapper = dict(optimizer=_base_.optimizer)
