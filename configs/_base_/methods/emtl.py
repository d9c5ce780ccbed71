# Equitable multi-task learning (Yuan, Zhang, arXiv 2306.09373), as far as its abstract tells.
# Unverified: our reading, not the paper. Does not accumulate over micro-batches.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='EMTL'))
