# The released STGU program's model without its heads: ViT-T/16 with the AugReg weights, fine-tuned at 384 pixels. The
# maps of blocks 3, 6, 9 and 12 are concatenated for one 1x1 convolution per task.
# Without a network: model.backbone.pretrained=FILE (for instance Google's .npz), or =False for random weights.
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(
        type='mtl_plugins.TimmViT',
        model_name='vit_tiny_patch16_384.augreg_in21k_ft_in1k',
        drop_path_rate=0.15,
        pretrained=True,
    ),
)
