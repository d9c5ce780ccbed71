_base_ = ['./vit-tiny.py']

model = dict(
    # The released program maps images to -1..1 here, without the ImageNet mean.
    data_preprocessor=dict(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
    backbone=dict(img_size=(256, 256)),
    heads=dict(
        depth_euclidean=dict(),
        depth_zbuffer=dict(),
        edge_occlusion=dict(),
        edge_texture=dict(),
        keypoints2d=dict(),
        keypoints3d=dict(),
        normal=dict(),
        principal_curvature=dict(),
        reshading=dict(channels=3),
        segment_unsup2d=dict(channels=1),
        segment_unsup25d=dict(),
    ),
)
