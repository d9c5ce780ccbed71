# MMSegmentation's schedule (optimizer, optim_wrapper, hooks), cut down to 2000 iterations.
_base_ = 'mmseg::_base_/schedules/schedule_20k.py'
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=2000, by_epoch=False)]
train_cfg = dict(max_iters=2000, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=2))
