"""Datasets, their samplers and their transforms."""

from .cache import CacheError, SampleCache
from .samplers import AbsoluteSampler, SamplePosition
from .transforms import (
    CheckTargets,
    LoadCachedSample,
    MultiTaskPad,
    MultiTaskRandomCrop,
    MultiTaskRandomFlip,
    MultiTaskRandomScale,
    PackMultiTaskInputs,
    SeededTransforms,
)

__all__ = [
    'AbsoluteSampler',
    'CacheError',
    'CheckTargets',
    'LoadCachedSample',
    'MultiTaskPad',
    'MultiTaskRandomCrop',
    'MultiTaskRandomFlip',
    'MultiTaskRandomScale',
    'PackMultiTaskInputs',
    'SampleCache',
    'SamplePosition',
    'SeededTransforms',
]
