_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/rooms-96.py',
    '../_base_/models/mti-net_hrnet-micro_rooms-96.py',
    '../_base_/schedules/adam_2k.py',
    '../_base_/methods/cagrad.py',
]
# Higher than for the ViTs: convolutions with batch normalisation bear it, and need it to learn from scratch in so few
# iterations.
optimizer = dict(type='Adam', lr=2e-3, weight_decay=1e-6)
optim_wrapper = dict(optimizer=optimizer)
