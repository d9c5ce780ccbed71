_base_ = ['./gd_vit-tiny_1xb8-40k_taskonomy-256x256.py']

model = dict(backbone=dict(model_name='vit_small_patch16_384.augreg_in21k_ft_in1k'))
