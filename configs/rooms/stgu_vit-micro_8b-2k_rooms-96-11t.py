# All eleven tasks.
_base_ = ['./stgu_vit-micro_8b-2k_rooms-96.py']

tasks = (
    *_base_.tasks,
    'human_parts',
    'reshading',
    'principal_curvature',
    'edge_texture',
    'keypoints2d',
    'edge_occlusion',
)
fine = dict(type='mtl_plugins.LinearHead', scale=4)
model = dict(
    heads=dict(
        human_parts=dict(num_classes=7),
        reshading=dict(),
        principal_curvature=dict(),
        edge_texture=dict(predictor=fine),
        keypoints2d=dict(),
        edge_occlusion=dict(predictor=fine),
    ),
)
train_dataloader = dict(dataset=dict(tasks=tasks))
val_dataloader = dict(dataset=dict(tasks=tasks))
test_dataloader = dict(dataset=dict(tasks=tasks))
val_evaluator = dict(tasks=tasks)
test_evaluator = dict(tasks=tasks)
