# The loss part of impartial multi-task learning (Liu et al., ICLR 2021).
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='IMTLL', lr=0.025))
