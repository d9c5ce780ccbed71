# All eleven tasks.
_base_ = ['./stgu_vit-micro_8b-2k_rooms-96.py']

tasks = (
    *_base_.tasks,
    'human_parts',
    'reshading',
    'principal_curvature',
    'edge_texture',
    'keypoints2d',
    'edge_occlusion',
)
predictor = _base_.predictor
model = dict(
    heads=dict(
        human_parts=dict(num_classes=7, predictor=predictor),
        reshading=dict(predictor=predictor),
        principal_curvature=dict(predictor=predictor),
        edge_texture=dict(predictor=predictor),
        keypoints2d=dict(predictor=predictor),
        edge_occlusion=dict(predictor=predictor),
    ),
)
train_dataloader = dict(dataset=dict(tasks=tasks))
val_dataloader = dict(dataset=dict(tasks=tasks))
test_dataloader = dict(dataset=dict(tasks=tasks))
val_evaluator = dict(tasks=tasks)
test_evaluator = dict(tasks=tasks)
