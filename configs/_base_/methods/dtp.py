# Dynamic task prioritization (Guo et al., ECCV 2018), with a proxy made of the losses, so that it needs no metrics.
# The paper follows metrics: weighting.kpi='metric', and a TaskKPIHook among the custom_hooks that names one per task.
# No official program exists: the formula was checked, the proxy and the default numbers are ours.
optim_wrapper = dict(
    type='mtl_plugins.MultiTaskOptimWrapper',
    weighting=dict(type='DTP', kpi='loss', gamma=1.0, alpha=0.3),
)
