# The weighted sum of all task losses, with equal weights.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='EqualWeighting'))
