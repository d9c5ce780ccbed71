# Loss discrepancy control (Xiao et al., arXiv 2502.08585), with one learned number per task in place of a layer on the
# features. The order of the tasks matters: losses of neighbours are kept close.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='LDCMTL', lamda=0.05))
