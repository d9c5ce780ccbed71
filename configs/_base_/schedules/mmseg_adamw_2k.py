# What MMSegmentation trains SegFormer with, and Swin, cut down to 2000 iterations; their paramwise_cfg is in the leaf.
_base_ = './mmseg_2k.py'
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=50, end=2000, by_epoch=False),
]
