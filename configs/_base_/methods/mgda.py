# Multiple-gradient descent (Sener, Koltun, NeurIPS 2018), solved exactly.
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='MGDA', normaliser='none'),
)
