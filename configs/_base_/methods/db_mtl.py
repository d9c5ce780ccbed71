# Dual balancing (Lin et al., arXiv 2308.12029): smoothed gradients of the logarithms of the losses, equally long.
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='DBMTL', beta=0.9, beta_sigma=0.0),
)
