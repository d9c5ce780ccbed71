# DINOv2 ViT-S/14, frozen, without its heads: a file for a dataset adds them, and backbone.img_size. The maps of blocks
# 3, 6, 9 and 12, each normalised, are joined by convolutions, which are trained together with the heads.
# Without a network: model.backbone.pretrained=FILE, for instance Meta's dinov2_vits14_pretrain.pth.
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(
        type='mtl_plugins.TimmBackbone',
        model_name='vit_small_patch14_dinov2.lvd142m',
        pretrained=True,
        frozen=True,
        norm_maps=True,
        drop_path_rate=0.0,
    ),
    decoder=dict(type='mtl_plugins.PyramidDecoder', channels=128),
)
