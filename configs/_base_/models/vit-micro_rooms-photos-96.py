# The heads of configs/_base_/datasets/rooms-photos-96.py.
_base_ = ['./vit-micro_rooms-96.py']

pixels = dict(type='mtl_plugins.LinearHead', scale=8)
model = dict(
    heads=dict(
        edge_texture=dict(predictor=pixels),
        keypoints2d=dict(predictor=pixels),
        segment_unsup2d=dict(predictor=pixels),
    ),
)
