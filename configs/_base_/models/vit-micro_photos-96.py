# One 1x1 convolution per task of configs/_base_/datasets/photos-96.py.
_base_ = ['./vit-micro_96.py']

model = dict(
    heads=dict(
        edge_texture=dict(),
        keypoints2d=dict(),
        segment_unsup2d=dict(),
    ),
)
