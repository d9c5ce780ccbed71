# Rooms in which each training image has a random half of its labels, always the same ones (docs/partial_labels.md).
_base_ = ['./rooms-96.py']

train_dataloader = dict(
    # Each batch of 8 has every task; the batch size (times the number of processes) should be a multiple of it.
    sampler=dict(type='mtl_plugins.MixedSampler', cover=8),
    dataset=dict(
        pipeline=[
            _base_.train_pipeline[0],
            dict(type='mtl_plugins.RandomLabelSubset', tasks=_base_.tasks, keep=0.5),
            *_base_.train_pipeline[1:],
        ],
    ),
)
