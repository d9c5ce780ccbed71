# UPerNet on Swin-T; stage 4 of the backbone belongs to the decode head alone, the auxiliary head sits on stage 3.
_base_ = [
    'mmseg::_base_/models/upernet_swin.py',
    '../_base_/datasets/rooms-mmseg-96x96.py',
    'mmseg::_base_/default_runtime.py',
    '../_base_/schedules/mmseg_adamw_2k.py',
]
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=12, norm_cfg=norm_cfg),
    auxiliary_head=dict(num_classes=12, norm_cfg=norm_cfg),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
        }
    )
)
