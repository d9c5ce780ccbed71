# One 1x1 convolution per task of configs/_base_/datasets/rooms-96.py; each token predicts 4 x 4 pixels.
_base_ = ['./vit-micro_96.py']

predictor = dict(type='mtl_plugins.LinearHead', scale=4)
model = dict(
    heads=dict(
        semseg=dict(num_classes=12, predictor=predictor),
        depth=dict(predictor=predictor),
        normals=dict(predictor=predictor),
        # About one pixel in sixteen is an edge.
        edge=dict(predictor=predictor, loss=dict(type='mtl_plugins.MaskedBCELoss', pos_weight=4.0)),
        sal=dict(predictor=predictor),
    ),
)
