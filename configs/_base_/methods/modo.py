# Multi-objective descent with double sampling (Chen et al., JMLR 2024), on one batch per step.
# The paper wants gradients of two or three independent batches per step, which the training step does not make (it
# refuses single_batch=False), so one stands for all.
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='MoDo', gamma=0.1, rho=0.1, single_batch=True),
)
