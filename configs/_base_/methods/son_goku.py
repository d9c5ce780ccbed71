# Colours of a graph of conflicts take turns (SON-GOKU); docs/stgu.md explains the settings of turns.
optim_wrapper = dict(
    type='mtl_plugins.SonGokuOptimWrapper',
    affinity=dict(type='GradientCosine', decay=0.1),
    grouper=dict(type='GraphColouring', tau_start=1.0, tau_end=0.25),
    regroup_interval=32,
)
