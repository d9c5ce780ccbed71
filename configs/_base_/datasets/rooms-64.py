# Rendered rooms of 64 x 64 pixels, five of their eleven tasks. Few images and no augmentation but flips, so that a
# minute of training on a CPU is not cut short: ordinary training with two or three passes per batch stops improving on
# the validation set half way, and what a method gains beyond that is not just a head start.
tasks = ('semseg', 'depth', 'normals', 'edge', 'sal')
dataset_type = 'mtl_plugins.RoomsDataset'

train_pipeline = [
    dict(type='mtl_plugins.LoadCachedSample'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(
        type='mtl_plugins.SeededTransforms',
        transforms=[dict(type='mtl_plugins.MultiTaskRandomFlip', prob=0.5)],
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
    num_workers=0,
    sampler=dict(type='mtl_plugins.AbsoluteSampler', shuffle=True),
    dataset=dict(type=dataset_type, split='train', num_images=96, size=(64, 64), tasks=tasks, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, split='val', num_images=128, size=(64, 64), tasks=tasks, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, split='test', num_images=128, size=(64, 64), tasks=tasks, pipeline=test_pipeline),
)
# At this size the usual tolerance of edges, 0.0075 of the diagonal, would be less than a pixel.
metrics = [
    dict(type='mtl_plugins.SegmentationMetric', task='semseg'),
    dict(type='mtl_plugins.DepthErrorMetric', task='depth'),
    dict(type='mtl_plugins.NormalsMetric', task='normals'),
    dict(
        type='mtl_plugins.EdgeMetric',
        task='edge',
        max_dist=0.0125,
        matcher='greedy',
        thresholds=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        num_workers=0,
    ),
    dict(type='mtl_plugins.SaliencyMetric', task='sal'),
]
val_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics=metrics, tasks=tasks)
test_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics=metrics, tasks=tasks)
