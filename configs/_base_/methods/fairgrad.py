# Fair resource allocation in multi-task learning (Ban, Ji, ICML 2024), solved exactly.
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='FairGrad', alpha=2.0))
