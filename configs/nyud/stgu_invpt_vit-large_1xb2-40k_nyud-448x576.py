# InvPT's own setting (batches of 2) but for the method.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/nyud-448x576.py',
    '../_base_/models/invpt_vit-large_nyud-448x576.py',
    '../_base_/schedules/adam_40k.py',
    '../_base_/methods/stgu.py',
]
optim_wrapper = dict(optimizer=_base_.optimizer)
default_hooks = dict(checkpoint=dict(interval=5000))
train_dataloader = dict(batch_size=2)
