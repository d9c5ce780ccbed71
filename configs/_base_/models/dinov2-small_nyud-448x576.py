_base_ = ['./dinov2-small.py', './dense-heads_nyud.py']

# Images of 448 x 576 are padded to multiples of the patch of 14. A position predicts 4 x 4 pixels.
predictor = dict(type='mtl_plugins.LinearHead', scale=4, smooth_start=True)
model = dict(
    backbone=dict(img_size=(448, 588)),
    heads={task: dict(head, predictor=predictor) for task, head in _base_.dense_heads.items()},
)
