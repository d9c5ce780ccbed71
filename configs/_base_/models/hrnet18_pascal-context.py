_base_ = ['./hrnet18.py', './survey-heads_pascal-context.py']

model = dict(
    heads={task: dict(head, features='maps', predictor=_base_.predictor) for task, head in _base_.survey_heads.items()},
)
