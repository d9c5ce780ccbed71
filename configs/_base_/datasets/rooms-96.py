# Rendered rooms of 96 x 96 pixels, five of their eleven tasks; made on first use, no download.
tasks = ('semseg', 'depth', 'normals', 'edge', 'sal')
dataset_type = 'mtl_plugins.RoomsDataset'

train_pipeline = [
    dict(type='mtl_plugins.LoadCachedSample'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(
        type='mtl_plugins.SeededTransforms',
        transforms=[
            dict(type='mtl_plugins.MultiTaskRandomScale', scale=(1.0, 1.5)),
            dict(type='mtl_plugins.MultiTaskRandomCrop', size=(96, 96)),
            dict(type='mtl_plugins.MultiTaskRandomFlip', prob=0.5),
            dict(type='mtl_plugins.FastPhotoMetricDistortion'),
        ],
    ),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]
test_pipeline = [
    dict(type='mtl_plugins.LoadCachedSample'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mtl_plugins.AbsoluteSampler', shuffle=True),
    dataset=dict(type=dataset_type, split='train', num_images=320, size=(96, 96), tasks=tasks, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, split='val', num_images=64, size=(96, 96), tasks=tasks, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, split='test', num_images=64, size=(96, 96), tasks=tasks, pipeline=test_pipeline),
)
val_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', tasks=tasks)
test_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', tasks=tasks)
