# Weights from estimated excess risks (He et al., ICML 2024).
# Formula of a public program; no numbers to check against.
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='ExcessMTL', eta=0.01))
