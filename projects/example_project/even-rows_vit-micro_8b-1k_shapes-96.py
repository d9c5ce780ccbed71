_base_ = [
    '../../configs/_base_/default_runtime.py',
    '../../configs/_base_/models/vit-micro_96.py',
    '../../configs/_base_/schedules/adam_1k.py',
]
custom_imports = dict(
    imports=[
        'projects.example_project.tasks',
        'projects.example_project.shapes',
        'projects.example_project.head',
        'projects.example_project.even_rows',
    ]
)
tasks = ('shape', 'outline_distance', 'edge')

# Distances are in pixels, so nothing here may change the size of the picture; mirroring is harmless.
train_pipeline = [
    dict(type='mtl_plugins.LoadSampleFiles'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(
        type='mtl_plugins.SeededTransforms',
        transforms=[
            dict(type='mtl_plugins.MultiTaskRandomFlip', prob=0.5),
            dict(type='mtl_plugins.FastPhotoMetricDistortion'),
        ],
    ),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]
test_pipeline = [
    dict(type='mtl_plugins.LoadSampleFiles'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mtl_plugins.AbsoluteSampler', shuffle=True),
    dataset=dict(type='ShapesDataset', data_root='data/shapes', split='train', tasks=tasks, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ShapesDataset', data_root='data/shapes', split='val', tasks=tasks, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', tasks=tasks)
test_evaluator = val_evaluator

model = dict(
    heads=dict(
        shape=dict(num_classes=4, predictor=dict(type='TwoLayerHead', hidden=64)),
        outline_distance=dict(predictor=dict(type='TwoLayerHead', hidden=64), loss_weight=0.1),
        edge=dict(predictor=dict(type='mtl_plugins.LinearHead', scale=4)),
    )
)
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='EvenRows', limit=10.0),
    optimizer=_base_.optimizer,
)
