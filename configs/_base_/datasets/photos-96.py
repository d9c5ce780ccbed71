# Crops of 96 x 96 pixels from real photographs, with targets computed from the photographs; no download.
# The photographs are those inside scikit-image and scikit-learn (docs/photos_licences.md).
# Your own folder of images, for all three splits at once: python tools/train.py CONFIG --data-root DIR
tasks = ('edge_texture', 'keypoints2d', 'segment_unsup2d')
dataset_type = 'mtl_plugins.PhotosDataset'
photos = dict(type=dataset_type, root=None, tasks=tasks, crop_size=(96, 96), on_error='skip')

# No transform changes colours or scales: the targets were computed at this scale and do not follow.
train_pipeline = [
    dict(type='mtl_plugins.LoadCachedSample'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(
        type='mtl_plugins.SeededTransforms',
        transforms=[
            dict(type='mtl_plugins.MultiTaskRandomCrop', size=(88, 88)),
            dict(type='mtl_plugins.MultiTaskRandomFlip', prob=0.5),
        ],
    ),
    # Back to the size of the model; what is filled in has no target.
    dict(type='mtl_plugins.MultiTaskPad', size=(96, 96)),
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
    dataset=dict(split='train', crops_per_image=32, pipeline=train_pipeline, **photos),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', crops_per_image=6, pipeline=test_pipeline, **photos),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', crops_per_image=6, pipeline=test_pipeline, **photos),
)
val_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', tasks=tasks)
test_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', tasks=tasks)
