# The best update in a cone about the mean gradient (Hassanpour et al., arXiv 2502.00217).
# Unverified: derived from the problem statement, not checked against the paper.
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='ConicGrad', c=0.25))
