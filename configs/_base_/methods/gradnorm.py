# Gradient normalisation (Chen et al., ICML 2018); compares gradients on the last shared layer (shared_layer=NAME for
# another). Does not accumulate over micro-batches. No numbers of the authors exist to check against.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='GradNorm', alpha=1.5, lr=0.025))
