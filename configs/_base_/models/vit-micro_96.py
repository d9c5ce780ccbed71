# A ViT of 1.2 million parameters with 1x1 heads, from random weights: small enough for two CPU cores.
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(
        type='mtl_plugins.TimmViT',
        model_name='vit_tiny_patch16_384',
        img_size=(96, 96),
        patch_size=8,
        embed_dim=128,
        depth=6,
        num_heads=4,
        out_indices=(1, 3, 4, 5),
        drop_path_rate=0.05,
    ),
)
