# Impartial multi-task learning (Liu et al., ICLR 2021): IMTL-L scales the losses, IMTL-G combines their gradients.
optim_wrapper = dict(
    type='mtl_plugins.GradientAggregationOptimWrapper',
    weighting=dict(type='IMTLL', lr=0.025),
    aggregator=dict(type='IMTLG'),
)
