# All eleven tasks.
_base_ = ['./gd_vit-nano_8b-1200_rooms-64.py']

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
more_metrics = [
    dict(type='mtl_plugins.SegmentationMetric', task='human_parts'),
    dict(type='mtl_plugins.RegressionMetric', task='reshading'),
    dict(type='mtl_plugins.RegressionMetric', task='principal_curvature'),
    dict(type='mtl_plugins.RegressionMetric', task='edge_texture'),
    dict(type='mtl_plugins.RegressionMetric', task='keypoints2d'),
    dict(type='mtl_plugins.RegressionMetric', task='edge_occlusion'),
]
train_dataloader = dict(dataset=dict(tasks=tasks))
val_dataloader = dict(dataset=dict(tasks=tasks))
test_dataloader = dict(dataset=dict(tasks=tasks))
val_evaluator = dict(tasks=tasks, metrics=[*_base_.metrics, *more_metrics])
test_evaluator = dict(tasks=tasks, metrics=[*_base_.metrics, *more_metrics])
