# The same with names of one's own for the tasks; by default they are the prefixes of the losses, decode and aux.
_base_ = './depth_r18_1xb8-2k_rooms-96x96.py'
optim_wrapper = dict(
    type='mtl_plugins.SelectiveTaskGroupOptimWrapper',
    tasks=dict(depth='decode.', semseg='aux.'),
)
