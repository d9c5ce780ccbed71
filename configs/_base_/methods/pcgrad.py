# Projecting conflicting gradients (Yu et al., NeurIPS 2020).
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='PCGrad'))
