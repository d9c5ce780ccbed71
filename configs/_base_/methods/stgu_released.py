# Selective task group updates as the authors' released program runs them; for side-by-side comparisons.
optim_wrapper = dict(
    type='mtl_plugins.ReleasedTaskGroupOptimWrapper',
    affinity=dict(type='ReleasedAffinity', decay=1e-3),
)
