_base_ = ['./dinov2-small.py', './dense-heads_rooms.py']

# Images of 96 x 96 are padded to a multiple of the patch of 14. A position predicts 4 x 4 pixels.
predictor = dict(type='mtl_plugins.LinearHead', scale=4, smooth_start=True)
model = dict(
    backbone=dict(img_size=98),
    heads={task: dict(head, predictor=predictor) for task, head in _base_.dense_heads.items()},
)
