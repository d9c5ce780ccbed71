"""Transforms for samples with many dense targets; for all else those of mmcv and mmseg apply."""

from .checks import CheckTargets
from .formatting import PackMultiTaskInputs
from .geometry import MultiTaskRandomCrop, MultiTaskRandomFlip, MultiTaskRandomScale
from .loading import LoadCachedSample
from .padding import MultiTaskPad
from .seeded import SeededTransforms

__all__ = [
    'CheckTargets',
    'LoadCachedSample',
    'MultiTaskPad',
    'MultiTaskRandomCrop',
    'MultiTaskRandomFlip',
    'MultiTaskRandomScale',
    'PackMultiTaskInputs',
    'SeededTransforms',
]
