# AdaTask (Yang et al., AAAI 2023): an adaptive optimizer with accumulators per task ('Adam', 'RMSprop', 'Adagrad').
# Learning rate and decay come from the schedule. Against the authors' program only Adam was checked.
# As a base of a config: optim_wrapper=dict(optimizer=dict(lr=..., weight_decay=...)), so that the type stays.
optim_wrapper = dict(
    type='mtl_plugins.AdaTaskOptimWrapper',
    optimizer=dict(type='mtl_plugins.AdaTask', base='Adam'),
)
