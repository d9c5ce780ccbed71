# Real photographs; your own folder of images: --data-root DIR.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/photos-96.py',
    '../_base_/models/vit-micro_photos-96.py',
    '../_base_/schedules/adam_1k.py',
    '../_base_/methods/gd.py',
]
optim_wrapper = dict(optimizer=_base_.optimizer)
