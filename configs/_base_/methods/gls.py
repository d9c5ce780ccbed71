# Geometric loss strategy (Chennupati et al., CVPR Workshops 2019). Losses must not be negative.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='GLS'))
