# Improvable gap balancing, first version (Dai, Fei, Lu, UAI 2023): losses that fell least count most.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='IGB', base_epoch=1))
