_base_ = ['./stgu_released_vit-tiny_1xb8-40k_nyud-448x576.py']

model = dict(backbone=dict(model_name='vit_base_patch16_384.augreg_in21k_ft_in1k'))
