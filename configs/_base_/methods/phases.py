# Single tasks at first, jointly later (the schedule of Jeong and Yoon, CVPR 2024). The joint strategy is ordinary
# training; another: joint=dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='PCGrad')).
optim_wrapper = dict(type='mtl_plugins.PhasesOptimWrapper')
