# The same under STGU. The losses are called loss_digit and loss_parity; tasks says which is which.
_base_ = './digits_convnet_1xb64-10e.py'
optim_wrapper = dict(
    type='mtl_plugins.SelectiveTaskGroupOptimWrapper',
    tasks=dict(digit='loss_digit', parity='loss_parity'),
)
