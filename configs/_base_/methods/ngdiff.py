# Sum of the normalised gradients, with signs for unlearning (Bu et al., NAACL 2025): aggregator.signs=dict(forget=-1).
# Unverified for more than two tasks.
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='NGDiff'))
