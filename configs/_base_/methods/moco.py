# Multi-objective gradient correction (Fernando et al., ICLR 2023).
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='MoCo', beta=0.5, gamma=0.1),
)
