# A frozen network with low-rank additions for all tasks and for each task.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/rooms-96.py',
    '../_base_/models/dinov2-small_rooms-96.py',
    '../_base_/schedules/adam_2k.py',
    '../_base_/methods/gd.py',
]
optim_wrapper = dict(optimizer=_base_.optimizer)
model = dict(backbone=dict(adapters=dict(rank=4, task_rank=4)))
