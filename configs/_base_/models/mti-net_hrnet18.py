# MTI-Net (Vandenhende et al., ECCV 2020) on HRNet-W18-small-v2: task features as wide as the four maps, deep
# supervision at all of them, and HRNet's head on the distilled features of all scales.
_base_ = ['./hrnet18.py']

model = dict(decoder=dict(type='mtl_plugins.MTINetDecoder', norm_cfg=_base_.norm_cfg))
predictor = dict(
    _delete_=True,
    type='mmseg.FCNHead',
    channels=18 + 36 + 72 + 144,
    kernel_size=1,
    num_convs=1,
    concat_input=False,
    dropout_ratio=-1,
    norm_cfg=_base_.norm_cfg,
)
