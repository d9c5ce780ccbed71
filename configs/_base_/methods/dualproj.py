# The mean gradient projected on the updates without conflict, solved exactly.
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='DualProj'))
