# NYUD-v2: 795 images to train, 654 to test, 425 x 560 pixels, four tasks. --data-root says where the data are.
tasks = ('semseg', 'depth', 'normals', 'edge')
dataset_type = 'mtl_plugins.NYUDv2Dataset'
data_root = 'data/NYUDv2'
crop_size = (448, 576)

train_pipeline = [
    dict(type='mtl_plugins.LoadSampleFiles'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(
        type='mtl_plugins.SeededTransforms',
        transforms=[
            dict(type='mtl_plugins.MultiTaskRandomScale', scale=(0.5, 2.0)),
            # Anywhere, as the released STGU program does in effect, and so that single-task models see the same crops.
            # InvPT and ATRC draw again where one class fills more than 0.75 of the crop: cat_max_ratio=0.75.
            dict(type='mtl_plugins.MultiTaskRandomCrop', size=crop_size, cat_max_ratio=1.0),
            dict(type='mtl_plugins.MultiTaskRandomFlip', prob=0.5),
            dict(type='mtl_plugins.FastPhotoMetricDistortion'),
        ],
    ),
    dict(type='mtl_plugins.MultiTaskPad', size=crop_size),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]
test_pipeline = [
    dict(type='mtl_plugins.LoadSampleFiles'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(type='mtl_plugins.MultiTaskPad', size=crop_size, pad_targets=False),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mtl_plugins.AbsoluteSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', tasks=tasks, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, split='val', tasks=tasks, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

# The papers' rules: a class that never occurs counts 0; odsF with 101 thresholds, lines thinned to where they are
# strongest, and edges that may be 0.011 of the diagonal away.
metrics = [
    dict(type='mtl_plugins.SegmentationMetric', task='semseg', absent='zero'),
    dict(type='mtl_plugins.DepthErrorMetric', task='depth'),
    dict(type='mtl_plugins.NormalsMetric', task='normals'),
    dict(type='mtl_plugins.EdgeMetric', task='edge', max_dist=0.011, thresholds=101, nms=True),
]
headlines = dict(edge=dict(metric='edge/odsF'))
val_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics=metrics, tasks=tasks, headlines=headlines)
test_evaluator = val_evaluator
