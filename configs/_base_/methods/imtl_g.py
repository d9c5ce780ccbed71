# The gradient part of impartial multi-task learning (Liu et al., ICLR 2021).
optim_wrapper = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='IMTLG'))
