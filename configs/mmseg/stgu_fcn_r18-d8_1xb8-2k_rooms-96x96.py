# All that an existing config needs: the type of the optimizer wrapper.
_base_ = './fcn_r18-d8_1xb8-2k_rooms-96x96.py'
optim_wrapper = dict(type='mtl_plugins.SelectiveTaskGroupOptimWrapper')
