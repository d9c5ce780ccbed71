# Selective task group updates (ICLR 2025), our version; docs/stgu.md explains every setting.
optim_wrapper = dict(
    type='mtl_plugins.SelectiveTaskGroupOptimWrapper',
    affinity=dict(type='ProximalAffinity', decay=1e-3),
    grouper=dict(type='AffinityPropagation'),
    warmup_iters=100,
    regroup_interval=10,
    probe_interval=10,
    same_noise=True,
)
