# Smooth Tchebycheff scalarisation (Lin et al., ICML 2024), the form of its multi-task experiments.
# Against a public program only the linear form was checked, the logarithmic one by autograd.
optim_wrapper = dict(
    type='mtl_plugins.MultiTaskOptimWrapper',
    weighting=dict(type='STCH', form='log', mu=1.0, warmup=4),
)
