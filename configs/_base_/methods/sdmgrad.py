# Direction-oriented multi-objective descent (Xiao, Ban, Ji, NeurIPS 2023), on one batch per step.
# The paper wants gradients of three independent batches per step, which the training step does not make (it refuses
# single_batch=False), so one stands for all three: what is left is MGDA drawn to the mean gradient.
# No numbers of the authors exist to check against.
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='SDMGrad', lamda=0.3, single_batch=True),
)
