# An ordinary MMEngine config. `--method KEY` makes each of the model's two losses a task.
default_scope = 'mmengine'
custom_imports = dict(imports=['projects.digits.digits'])

model = dict(type='DigitsNet')
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(type='DigitsDataset', split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(type='DigitsDataset', split='val'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
val_evaluator = dict(type='DigitsAccuracy')

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10)
val_cfg = dict(type='ValLoop')
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=5, max_keep_ckpts=2))
randomness = dict(seed=0)
