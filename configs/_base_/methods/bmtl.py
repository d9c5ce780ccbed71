# Balanced multi-task learning (Liang, Zhang, arXiv 2002.04792): larger losses count more.
# Unverified: that the paper means the exponential, and its temperature.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='BMTL', temperature=50.0))
