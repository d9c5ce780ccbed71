# Soft optimal uncertainty weighting (Kirchdorfer et al., GCPR 2024): softmax of the inverse losses.
# The temperature has to be chosen for the losses at hand: larger is more even.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='UWSO', temperature=1.0))
