# Gradient sign dropout (Chen et al., NeurIPS 2020), on the shared parameters.
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='GradDrop', leak=0.0))
