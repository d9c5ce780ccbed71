# FCN on ResNet-18 as MMSegmentation has it; `--method KEY` makes each of its two heads a task.
_base_ = [
    'mmseg::_base_/models/fcn_r50-d8.py',
    '../_base_/datasets/rooms-mmseg-96x96.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/schedules/mmseg_2k.py',
]
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained=None,
    backbone=dict(depth=18, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=512, channels=128, num_classes=12, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=256, channels=64, num_classes=12, norm_cfg=norm_cfg),
)
