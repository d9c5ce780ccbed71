# Five tasks of configs/_base_/datasets/rooms-96.py. One pixel in sixteen is an edge.
dense_heads = dict(
    semseg=dict(num_classes=12),
    depth=dict(),
    normals=dict(),
    edge=dict(loss=dict(type='mtl_plugins.MaskedBCELoss', pos_weight=4.0)),
    sal=dict(),
)
