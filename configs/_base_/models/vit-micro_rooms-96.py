# One 1x1 convolution per task of configs/_base_/datasets/rooms-96.py.
_base_ = ['./vit-micro_96.py']

model = dict(
    heads=dict(
        semseg=dict(num_classes=12),
        depth=dict(),
        normals=dict(),
        edge=dict(),
        sal=dict(),
    ),
)
