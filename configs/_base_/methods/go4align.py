# Group optimization for multi-task alignment (Shen et al., NeurIPS 2024).
# The number of groups is our choice; the authors' program has one by default.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='GO4Align', num_groups=2, eta=1e-4))
