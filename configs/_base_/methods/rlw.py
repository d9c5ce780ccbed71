# Random loss weighting (Lin et al., TMLR 2022): new weights in every step.
optim_wrapper = dict(type='mtl_plugins.MultiTaskOptimWrapper', weighting=dict(type='RLW'))
