# Multi-task learning as a bargaining game (Navon et al., ICML 2022), solved exactly in every step.
# The authors also clip the update to 1 (aggregator.max_norm) and solve every few batches only (interval).
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='NashMTL', max_norm=None))
