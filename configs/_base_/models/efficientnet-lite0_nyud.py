_base_ = ['./efficientnet-lite0.py', './dense-heads_nyud.py']

# The finest map that is used has a quarter of the resolution of the image: a position predicts 4 x 4 pixels.
predictor = dict(type='mtl_plugins.LinearHead', scale=4, smooth_start=True)
model = dict(
    backbone=dict(out_indices=(1, 2, 3, 4)),
    heads={task: dict(head, predictor=predictor) for task, head in _base_.dense_heads.items()},
)
