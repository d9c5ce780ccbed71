# Dynamic weight average (Liu, Johns, Davison, CVPR 2019) over epochs; window=25 averages over iterations instead.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='DWA', temperature=2.0, window=None))
