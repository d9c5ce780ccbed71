_base_ = ['./mti-net_hrnet18.py', './survey-heads_nyud.py']

model = dict(
    heads={task: dict(head, predictor=_base_.predictor) for task, head in _base_.survey_heads.items()},
)
