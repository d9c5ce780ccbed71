# Flat minima per task (Phan et al., ICCV 2025), on PCGrad, one of the four base methods of the paper.
optim_wrapper = dict(
    type='mtl_plugins.SharpnessAwareOptimWrapper',
    aggregator=dict(type='PCGrad'),
    rho=0.05,
    adaptive=False,
)
