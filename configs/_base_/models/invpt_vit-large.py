# InvPT (Ye and Xu, ECCV 2022) on ViT-L/16 with the AugReg weights, in its published setting, without its heads: a file
# for a dataset adds them, and backbone.img_size. The maps of blocks 6, 12, 18 and 24 go into the decoder.
# Without a network: model.backbone.pretrained=FILE (for instance Google's .npz), or =False for random weights.
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(
        type='mtl_plugins.TimmViT',
        model_name='vit_large_patch16_384.augreg_in21k_ft_in1k',
        drop_path_rate=0.15,
        pretrained=True,
    ),
    decoder=dict(type='mtl_plugins.InvPTDecoder', dims=(576, 288, 144), num_heads=2, pred_channels=64),
)
