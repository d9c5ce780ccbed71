# Uncertainty weighting (Kendall, Gal, Cipolla, CVPR 2018), the regression form for all tasks.
# For classification tasks the paper has another form: weighting.form=dict(semseg='classification', ...); of it only the
# point of rest was checked.
optim_wrapper = dict(
    type='mtl_plugins.MultiTaskOptimWrapper',
    weighting=dict(type='UncertaintyWeighting', form='regression', lr=0.025),
)
