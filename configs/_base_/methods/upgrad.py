# Mean of the gradients projected on the updates without conflict (Quinton, Rey, arXiv 2406.16232), solved exactly.
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='UPGrad'))
