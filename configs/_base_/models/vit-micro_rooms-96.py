# One 1x1 convolution per task of configs/_base_/datasets/rooms-96.py.
_base_ = ['./vit-micro_96.py']

model = dict(
    heads=dict(
        semseg=dict(num_classes=12),
        depth=dict(),
        normals=dict(),
        # Edges are one pixel wide, a token covers 8 x 8: it predicts 4 x 4 pixels. One pixel in sixteen is an edge.
        edge=dict(
            predictor=dict(type='mtl_plugins.LinearHead', scale=4),
            loss=dict(type='mtl_plugins.MaskedBCELoss', pos_weight=4.0),
        ),
        sal=dict(),
    ),
)
