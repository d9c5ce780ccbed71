_base_ = ['./efficientnet-lite0.py', './dense-heads_rooms.py']

# The map has half the resolution of the image: a position predicts 2 x 2 pixels.
predictor = dict(type='mtl_plugins.LinearHead', scale=2, smooth_start=True)
model = dict(
    heads={task: dict(head, predictor=predictor) for task, head in _base_.dense_heads.items()},
)
