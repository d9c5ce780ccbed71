# The multi-decoder baseline of the multi-task survey (Vandenhende et al., 2021): one ResNet-50 with stride 8 for all
# tasks, and for each the head of DeepLabv3 with rates 12, 24, 36. Both are mmseg's own. mmseg's head joins the branches
# by one 3x3 convolution, where the survey's has a 1x1 and then a 3x3 one: 2.0 million parameters more per task.
# The survey takes ResNet-18 on PASCAL-Context: model.backbone.depth=18.
# BN, not SyncBN, for one GPU; with several set norm_cfg.type=SyncBN in backbone and predictors.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(
        type='mmseg.ResNet',
        depth=50,
        out_indices=(3,),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_cfg=norm_cfg,
        # Random weights, so that a run starts without a network. The published numbers need those of ImageNet:
        # init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'), or the path of a file.
    ),
)
predictor = dict(
    type='mmseg.ASPPHead',
    channels=256,
    dilations=(1, 12, 24, 36),
    dropout_ratio=0.5,
    norm_cfg=norm_cfg,
)
