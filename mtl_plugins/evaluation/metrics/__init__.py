"""Metrics of dense tasks, one file each; all pool over the pixels of the dataset."""

from mtl_plugins.methods.exports import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        'base': 'DenseMetric',
        'depth': 'DepthErrorMetric',
        'edges': 'EdgeMetric',
        'normals': 'NormalsMetric angular_error',
        'regression': 'RegressionMetric',
        'saliency': 'PerImageSaliencyMetric SaliencyMetric',
        'segmentation': 'SegmentationMetric',
    },
)
