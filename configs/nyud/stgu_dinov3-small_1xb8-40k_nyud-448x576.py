# Without a network: model.backbone.pretrained=FILE, for instance Meta's own; its biases need a name with _qkvb.
_base_ = ['./stgu_dinov2-small_1xb8-40k_nyud-448x576.py']

model = dict(backbone=dict(model_name='vit_small_patch16_dinov3_qkvb.lvd1689m', img_size=(448, 576)))
