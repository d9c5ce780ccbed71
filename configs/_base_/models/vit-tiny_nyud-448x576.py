_base_ = ['./vit-tiny.py']

model = dict(
    backbone=dict(img_size=(448, 576)),
    # All losses weigh 1, as in the STGU papers; InvPT and others weigh normals 10 and edges 50 (loss_weight).
    heads=dict(semseg=dict(num_classes=40), depth=dict(), normals=dict(), edge=dict()),
)
