_base_ = ['./stgu_released_vit-tiny_1xb8-40k_pascal-context-512x512.py']

model = dict(backbone=dict(model_name='vit_small_patch16_384.augreg_in21k_ft_in1k'))
