# The second network: the first four blocks of a trained ViT-S; all of them learn on.
_base_ = ['./gd_efficientnet-lite0_4b-600_nyuv2-64x80.py']

dataset = dict(data_root='data/nyuv2_112x140')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader

# There are 8 x 10 positions; each predicts 4 x 4 values, which are resized to the image.
pixels = dict(type='mtl_plugins.LinearHead', scale=4, smooth_start=True)
model = dict(
    backbone=dict(
        _delete_=True,
        type='mtl_plugins.TimmBackbone',
        model_name='vit_small_patch14_dinov2',
        pretrained='data/dinov2_vits14.pth',
        img_size=(112, 140),
        blocks=4,
        out_indices=(1, 3),
        norm_maps=True,
        drop_path_rate=0.0,
    ),
    decoder=dict(type='mtl_plugins.PyramidDecoder', channels=64),
    heads={task: dict(head, predictor=pixels) for task, head in _base_.model.heads.items()},
)

# What is trained already wants a far lower rate than the heads: at one rate for both, classes stay below 3 % mIoU.
optim_wrapper = dict(optimizer=dict(lr=1e-2), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.003))))
