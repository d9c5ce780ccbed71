# Two datasets with different labels: rooms and photographs.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/rooms-photos-96.py',
    '../_base_/models/vit-micro_rooms-photos-96.py',
    '../_base_/schedules/adam_2k.py',
    '../_base_/methods/gd.py',
]
optim_wrapper = dict(optimizer=_base_.optimizer)
