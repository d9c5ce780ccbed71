"""Metrics of dense tasks, one file each; all pool over the pixels of the dataset."""

from .base import DenseMetric
from .depth import DepthErrorMetric
from .edges import EdgeMetric
from .normals import NormalsMetric, angular_error
from .regression import RegressionMetric
from .saliency import PerImageSaliencyMetric, SaliencyMetric
from .segmentation import SegmentationMetric

__all__ = [
    'DenseMetric',
    'DepthErrorMetric',
    'EdgeMetric',
    'NormalsMetric',
    'PerImageSaliencyMetric',
    'RegressionMetric',
    'SaliencyMetric',
    'SegmentationMetric',
    'angular_error',
]
