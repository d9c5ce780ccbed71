# MMSegmentation's DepthEstimator on ResNet-18: depth from its decode head, classes from the auxiliary head.
_base_ = [
    'mmseg::_base_/models/fcn_r50-d8.py',
    '../_base_/datasets/rooms-mmseg-96x96_depth.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/schedules/mmseg_2k.py',
]
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained=None,
    # VPDDepthHead reads maps at 1/4, 1/8, 1/16 and 1/32 of the image.
    backbone=dict(depth=18, dilations=(1, 1, 1, 1), strides=(1, 2, 2, 2), norm_cfg=norm_cfg),
    decode_head=dict(
        _delete_=True,
        type='VPDDepthHead',
        in_channels=[64, 128, 256, 512],
        embed_dim=32,
        feature_dim=256,
        num_deconv_layers=1,
        num_deconv_filters=(32,),
        max_depth=10.0,
        loss_decode=dict(type='SiLogLoss'),
    ),
    auxiliary_head=dict(in_channels=256, channels=64, num_classes=12, norm_cfg=norm_cfg),
)
