# A quarter of a million parameters, for comparisons of many methods on a CPU.
_base_ = ['./vit-micro_rooms-96.py']

model = dict(backbone=dict(img_size=(64, 64), embed_dim=64, depth=4, num_heads=2, out_indices=(0, 1, 2, 3)))
