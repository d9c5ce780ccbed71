# Fast adaptive multitask optimization (Liu et al., NeurIPS 2023); one more forward without graph per batch.
# The authors also clip the gradient of the shared parameters to 1; here that would be optim_wrapper.clip_grad.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='FAMO', gamma=0.01, lr=0.025))
