# One 1x1 convolution per task of configs/_base_/datasets/photos-96.py.
_base_ = ['./vit-micro_96.py']

# The targets change from pixel to pixel; a token covers 8 x 8 pixels, so it predicts as many values.
pixels = dict(type='mtl_plugins.LinearHead', scale=8)
model = dict(
    heads=dict(
        edge_texture=dict(predictor=pixels),
        keypoints2d=dict(predictor=pixels),
        segment_unsup2d=dict(predictor=pixels),
    ),
)
