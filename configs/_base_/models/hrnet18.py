# The multi-decoder baseline of the multi-task survey (Vandenhende et al., 2021): one HRNet-W18-small-v2 for all tasks,
# and for each the head of HRNetV2: the four maps side by side at 1/4, a 1x1 convolution with BN and ReLU, and another.
# Both are mmseg's own. BN, not SyncBN, for one GPU; with several set norm_cfg.type=SyncBN in backbone and predictors.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(
        type='mmseg.HRNet',
        norm_cfg=norm_cfg,
        extra=dict(
            stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(2,), num_channels=(64,)),
            stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(2, 2), num_channels=(18, 36)),
            stage3=dict(num_modules=3, num_branches=3, block='BASIC', num_blocks=(2, 2, 2), num_channels=(18, 36, 72)),
            stage4=dict(
                num_modules=2, num_branches=4, block='BASIC', num_blocks=(2, 2, 2, 2), num_channels=(18, 36, 72, 144)
            ),
        ),
        # Random weights, so that a run starts without a network. The published numbers need those of ImageNet:
        # init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://msra/hrnetv2_w18_small'), or the path of a file.
    ),
)
predictor = dict(
    type='mmseg.FCNHead',
    in_index=(0, 1, 2, 3),
    input_transform='resize_concat',
    channels=18 + 36 + 72 + 144,
    kernel_size=1,
    num_convs=1,
    concat_input=False,
    dropout_ratio=-1,
    norm_cfg=norm_cfg,
)
