# Weights smoothed over time (Zhou et al., NeurIPS 2022), of any method by products of gradients; here of MGDA.
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='CRMOGM', alpha=0.9, aggregator=dict(type='MGDA')),
)
