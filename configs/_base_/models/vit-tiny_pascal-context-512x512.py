_base_ = ['./vit-tiny.py']

model = dict(
    backbone=dict(img_size=(512, 512)),
    # All losses weigh 1, as in the STGU papers; InvPT and others weigh parts 2, saliency 5, normals 10 and edges 50.
    heads=dict(
        semseg=dict(num_classes=21),
        human_parts=dict(num_classes=7),
        sal=dict(channels=2, loss=dict(type='mtl_plugins.BalancedCrossEntropyLoss')),
        normals=dict(),
        edge=dict(),
    ),
)
