# Lightweight sharpness-aware optimization (Ban et al., ICCV 2025), on CAGrad, one of the base methods of the paper.
# No numbers of the authors exist to check against.
optim_wrapper = dict(
    type='mtl_plugins.SAMOOptimWrapper',
    aggregator=dict(type='CAGrad', c=0.4, rescale=1),
    rho=0.001,
    beta=0.5,
    mu=0.01,
    layerwise=True,
)
