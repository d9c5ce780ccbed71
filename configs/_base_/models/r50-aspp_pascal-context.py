_base_ = ['./r50-aspp.py', './survey-heads_pascal-context.py']

model = dict(
    heads={task: dict(head, features='last', predictor=_base_.predictor) for task, head in _base_.survey_heads.items()},
)
