# Taskonomy, tiny split, 11 tasks, 512 x 512 pixels resized to 256 x 256. --data-root says where the data are.
# Pixels without geometry are not labelled. The released STGU program labels them, trains on the validation buildings
# too, and evaluates on a tenth of the test images: dataset.masks=False, split='released_train', 'released_test'.
tasks = (
    'depth_euclidean', 'depth_zbuffer', 'edge_occlusion', 'edge_texture', 'keypoints2d', 'keypoints3d', 'normal',
    'principal_curvature', 'reshading', 'segment_unsup2d', 'segment_unsup25d',
)  # fmt: skip
dataset_type = 'mtl_plugins.TaskonomyDataset'
data_root = 'data/taskonomy'
# Resized by the dataset, before the codes of the files are decoded. The released program mixes codes by bilinear
# interpolation: dataset.resample='bilinear'.
crop_size = (256, 256)

train_pipeline = [
    dict(type='mtl_plugins.LoadSampleFiles'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(type='mtl_plugins.SeededTransforms', transforms=[dict(type='mtl_plugins.MultiTaskRandomFlip', prob=0.5)]),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]
test_pipeline = [
    dict(type='mtl_plugins.LoadSampleFiles'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mtl_plugins.AbsoluteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        tasks=tasks,
        size=crop_size,
        resample='nearest',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='val',
        tasks=tasks,
        size=crop_size,
        resample='nearest',
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        tasks=tasks,
        size=crop_size,
        resample='nearest',
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', tasks=tasks)
test_evaluator = val_evaluator
