# Adam with warm-up and polynomial decay; the schedulers step once per batch, however many groups are stepped in it.
max_iters = 1200
optimizer = dict(type='Adam', lr=2e-3, weight_decay=1e-6)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=300)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
