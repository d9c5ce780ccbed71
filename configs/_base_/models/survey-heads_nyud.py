# Tasks of NYUD-v2 with the losses and weights of the multi-task survey (Vandenhende et al., 2021).
survey_heads = dict(
    semseg=dict(num_classes=40),
    depth=dict(),
    normals=dict(loss=dict(type='mtl_plugins.NormalsL1Loss', channels='mean'), loss_weight=10.0),
    edge=dict(loss_weight=50.0),
)
