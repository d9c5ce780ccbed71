# InvPT (ECCV 2022) with ViT-L/16 in its published setting. A leaf adds the heads of its tasks, and the size of its
# images where that is not 448 x 576 (backbone.img_size).
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(
        type='mtl_plugins.TimmViT',
        model_name='vit_large_patch16_384',
        img_size=(448, 576),
        out_indices=(5, 11, 17, 23),
        pretrained=True,
        drop_path_rate=0.15,
    ),
    decoder=dict(type='mtl_plugins.InvPTDecoder', dims=(576, 288, 144), num_heads=2, pred_channels=64),
)
