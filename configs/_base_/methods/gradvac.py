# Gradient vaccine (Wang et al., ICLR 2021).
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='GradVac', beta=0.5))
