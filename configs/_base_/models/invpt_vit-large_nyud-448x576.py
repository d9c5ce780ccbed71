_base_ = ['./invpt_vit-large.py']

model = dict(
    backbone=dict(img_size=(448, 576)),
    # The weights of the released InvPT program; first predictions weigh the same (decoder.aux_weight).
    heads=dict(
        semseg=dict(num_classes=40),
        depth=dict(),
        normals=dict(loss_weight=10.0),
        edge=dict(loss_weight=50.0),
    ),
)
