# Rendered rooms and real photographs together: five tasks that the rooms have, three that the photographs have.
_base_ = ['./rooms-96.py']

room_tasks = _base_.tasks
photo_tasks = ('edge_texture', 'keypoints2d', 'segment_unsup2d')
tasks = (*room_tasks, *photo_tasks)
dataset_type = 'mtl_plugins.MultiTaskConcatDataset'
photos = dict(type='mtl_plugins.PhotosDataset', tasks=photo_tasks, crop_size=(96, 96), on_error='skip')

# Each dataset keeps its own pipeline; both end at 96 x 96. That of the photographs changes neither colours nor scales.
photo_pipeline = [
    *_base_.train_pipeline[:2],
    dict(
        type='mtl_plugins.SeededTransforms',
        transforms=[
            dict(type='mtl_plugins.MultiTaskRandomCrop', size=(88, 88)),
            dict(type='mtl_plugins.MultiTaskRandomFlip', prob=0.5),
        ],
    ),
    dict(type='mtl_plugins.MultiTaskPad', size=(96, 96)),
    _base_.train_pipeline[-1],
]

train_dataloader = dict(
    # As many rooms as photographs in each batch, however many there are of each.
    sampler=dict(type='mtl_plugins.MixedSampler', mixing='balanced', cover=8),
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        datasets=[
            _base_.train_dataloader.dataset,
            dict(split='train', crops_per_image=32, pipeline=photo_pipeline, **photos),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        datasets=[
            _base_.val_dataloader.dataset,
            dict(split='val', crops_per_image=6, pipeline=_base_.test_pipeline, **photos),
        ],
    ),
)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        datasets=[
            _base_.test_dataloader.dataset,
            dict(split='test', crops_per_image=6, pipeline=_base_.test_pipeline, **photos),
        ],
    ),
)
val_evaluator = dict(tasks=tasks)
test_evaluator = dict(tasks=tasks)
