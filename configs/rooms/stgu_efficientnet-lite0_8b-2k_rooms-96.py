_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/rooms-96.py',
    '../_base_/models/efficientnet-lite0_rooms.py',
    '../_base_/schedules/adam_2k.py',
    '../_base_/methods/stgu.py',
]
optim_wrapper = dict(optimizer=_base_.optimizer)
