# A ResNet of half a million parameters, from random weights, for configs/_base_/datasets/rooms-96.py: its maps of 1/2
# to 1/32 of the image are joined into one at 1/2, of which every position predicts 2 x 2 pixels.
_base_ = ['./dense-heads_rooms.py']

predictor = dict(type='mtl_plugins.LinearHead', scale=2, smooth_start=True)
model = dict(
    type='mtl_plugins.MultiTaskSegmentor',
    data_preprocessor=dict(type='mtl_plugins.MultiTaskDataPreProcessor'),
    backbone=dict(type='mtl_plugins.TimmBackbone', model_name='resnet10t', stem_width=32, channels=(24, 48, 96, 128)),
    decoder=dict(type='mtl_plugins.PyramidDecoder', channels=32),
    heads={task: dict(head, predictor=predictor) for task, head in _base_.dense_heads.items()},
)
