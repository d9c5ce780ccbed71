_base_ = ['./invpt_vit-large.py']

model = dict(
    backbone=dict(img_size=(512, 512)),
    # The weights of the released InvPT program; first predictions weigh the same (decoder.aux_weight).
    heads=dict(
        semseg=dict(num_classes=21),
        human_parts=dict(num_classes=7, loss_weight=2.0),
        sal=dict(channels=2, loss=dict(type='mtl_plugins.BalancedCrossEntropyLoss'), loss_weight=5.0),
        normals=dict(loss_weight=10.0),
        edge=dict(loss_weight=50.0),
    ),
)
