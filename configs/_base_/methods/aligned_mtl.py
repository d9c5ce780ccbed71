# Independent component alignment (Senushkin et al., CVPR 2023).
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    aggregator=dict(type='AlignedMTL', scale_mode='min'),
)
