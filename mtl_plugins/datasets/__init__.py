"""Datasets, their samplers and their transforms."""

from .cache import CacheError, SampleCache
from .photo_files import UnreadablePhotoError
from .photos import PhotosDataset
from .rooms import RoomsDataset
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
    'PhotosDataset',
    'RoomsDataset',
    'SampleCache',
    'SamplePosition',
    'SeededTransforms',
    'UnreadablePhotoError',
]
