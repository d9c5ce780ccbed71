# The released STGU program's schedule: Adam, polynomial decay to zero, 40 000 batches of 8.
max_iters = 40000
optimizer = dict(type='Adam', lr=2e-5, weight_decay=1e-6)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
