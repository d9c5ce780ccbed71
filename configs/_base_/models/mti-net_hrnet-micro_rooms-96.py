# A small MTI-Net for configs/_base_/datasets/rooms-96.py, from random weights: 1.6 million parameters.
norm_cfg = dict(type='BN')
predictor = dict(
    type='mmseg.FCNHead',
    channels=40,
    kernel_size=1,
    num_convs=1,
    concat_input=False,
    dropout_ratio=-1,
    norm_cfg=norm_cfg,
)
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    # Maps of 24 x 24, 12 x 12, 6 x 6 and 3 x 3.
    backbone=dict(
        type='mmseg.HRNet',
        norm_cfg=norm_cfg,
        extra=dict(
            stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(16,)),
            stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(1, 1), num_channels=(8, 16)),
            stage3=dict(num_modules=1, num_branches=3, block='BASIC', num_blocks=(1, 1, 1), num_channels=(8, 16, 24)),
            stage4=dict(
                num_modules=1, num_branches=4, block='BASIC', num_blocks=(1, 1, 1, 1), num_channels=(8, 16, 24, 32)
            ),
        ),
    ),
    decoder=dict(type='mtl_plugins.MTINetDecoder', norm_cfg=norm_cfg),
    heads=dict(
        semseg=dict(num_classes=12, predictor=predictor),
        depth=dict(predictor=predictor),
        normals=dict(predictor=predictor),
        # Edges are one pixel wide, a position of the features covers 4 x 4: it predicts 2 x 2 pixels.
        edge=dict(
            predictor=dict(type='mtl_plugins.LinearHead', scale=2),
            loss=dict(type='mtl_plugins.MaskedBCELoss', pos_weight=4.0),
        ),
        sal=dict(predictor=predictor),
    ),
)
