# Scaled loss approximate weighting (Crawshaw, Kosecka, arXiv 2109.08218).
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='SLAW', decay=0.99))
