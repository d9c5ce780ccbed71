_base_ = [
    '../../configs/_base_/default_runtime.py',
    '../../configs/_base_/datasets/rooms-96.py',
    '../../configs/_base_/models/vit-micro_rooms-96.py',
    '../../configs/_base_/schedules/adam_2k.py',
]
custom_imports = dict(imports=['projects.example_method.inverse_loss'])
optim_wrapper = dict(
    type='mtl_plugins.MultiTaskOptimWrapper',
    weighting=dict(type='InverseLoss', decay=0.9),
    optimizer=_base_.optimizer,
)
