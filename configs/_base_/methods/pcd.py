# Priority-constrained descent (TMLR 2026, arXiv 2606.29521): a main task, and some progress for all others.
# main=None is the first task of the model; name yours: optim_wrapper.aggregator.main=depth
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='PCD', main=None, tau=0.02),
)
