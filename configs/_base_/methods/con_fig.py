# Conflict-free inverse gradients (Liu, Chu, Thuerey, ICLR 2025).
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='ConFIG'))
