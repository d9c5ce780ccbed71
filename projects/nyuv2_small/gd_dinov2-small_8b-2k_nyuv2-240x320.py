# For a GPU: the whole trained ViT-S at 240 x 320. data/nyuv2_240x320 is made with `--size 240 320 --every 1`.
_base_ = ['./gd_dinov2-small-4-blocks_4b-600_nyuv2-112x140.py']

dataset = dict(data_root='data/nyuv2_240x320')
train_dataloader = dict(batch_size=8, num_workers=4, dataset=dataset)
val_dataloader = dict(num_workers=4, dataset=dataset)
test_dataloader = val_dataloader
model = dict(backbone=dict(img_size=(252, 322), blocks=12, out_indices=(2, 5, 8, 11)))

max_iters = 2000
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=100, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
