# A small InvPT decoder on the ViT of 1.2 million parameters, for configs/_base_/datasets/rooms-96.py. A token covers
# 8 x 8 pixels; at the stages of the decoder it is 16 x 16, 8 x 8 and 4 x 4.
_base_ = ['./vit-micro_rooms-96.py']

model = dict(decoder=dict(type='mtl_plugins.InvPTDecoder', dims=(96, 48, 24), pred_channels=16, out_scale=1))
