# Conflict-averse gradient descent (Liu et al., NeurIPS 2021), solved exactly.
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='CAGrad', c=0.4, rescale=1),
)
