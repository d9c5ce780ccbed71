# The same rooms with depth beside the classes. Of MMSegmentation's dataset classes, BaseCDDataset is the one that knows
# three files per sample: what it calls the second image (img_path2) is where LoadDepthAnnotation is told to look.
# There is no RandomResize: it would leave the metres as they are.
_base_ = './rooms-mmseg-96x96.py'
dataset_type = 'BaseCDDataset'
load_depth = dict(
    type='KeyMapper',
    mapping=dict(depth_map_path='img_path2'),
    auto_remap=False,
    transforms=[dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3)],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    load_depth,
    dict(type='RandomCrop', crop_size=_base_.crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    load_depth,
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        img_suffix2='.png',
        data_prefix=dict(img_path2='depth_dir/train'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        img_suffix2='.png',
        data_prefix=dict(img_path2='depth_dir/val'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='DepthMetric', min_depth_eval=1e-3, max_depth_eval=10.0)
test_evaluator = val_evaluator
