# Tasks of PASCAL-Context with the losses and weights of the multi-task survey (Vandenhende et al., 2021).
survey_heads = dict(
    semseg=dict(num_classes=21),
    human_parts=dict(num_classes=7, loss_weight=2.0),
    sal=dict(loss=dict(type='mtl_plugins.BalancedCrossEntropyLoss', average='all'), loss_weight=5.0),
    normals=dict(loss=dict(type='mtl_plugins.NormalsL1Loss', channels='mean'), loss_weight=10.0),
    edge=dict(loss_weight=50.0),
)
