"""Transforms for samples with many dense targets; for all else those of mmcv and mmseg apply."""

from .affine import MultiTaskRandomAffine
from .checks import CheckTargets
from .formatting import PackMultiTaskInputs
from .geometry import MultiTaskRandomCrop, MultiTaskRandomFlip, MultiTaskRandomScale
from .ignore import IgnoreEmptyParts
from .label_subset import RandomLabelSubset
from .loading import LoadCachedSample
from .padding import MultiTaskPad
from .photometric import FastPhotoMetricDistortion
from .resizing import MultiTaskResize
from .seeded import SeededTransforms

__all__ = [
    'CheckTargets',
    'FastPhotoMetricDistortion',
    'IgnoreEmptyParts',
    'LoadCachedSample',
    'MultiTaskPad',
    'MultiTaskRandomAffine',
    'MultiTaskRandomCrop',
    'MultiTaskRandomFlip',
    'MultiTaskRandomScale',
    'MultiTaskResize',
    'PackMultiTaskInputs',
    'RandomLabelSubset',
    'SeededTransforms',
]
