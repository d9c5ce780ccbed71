"""Datasets, their samplers and their transforms."""

from .cache import CacheError, SampleCache
from .files import DerivedCache, FilesDataset, LoadSampleFiles, UnreadableFileError
from .nyud import NYUDv2Dataset
from .pascal_context import PascalContextMTDataset
from .photo_files import UnreadablePhotoError
from .photos import PhotosDataset
from .rooms import RoomsDataset
from .samplers import AbsoluteSampler, SamplePosition
from .taskonomy import TaskonomyDataset
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
    'DerivedCache',
    'FilesDataset',
    'LoadCachedSample',
    'LoadSampleFiles',
    'MultiTaskPad',
    'MultiTaskRandomCrop',
    'MultiTaskRandomFlip',
    'MultiTaskRandomScale',
    'NYUDv2Dataset',
    'PackMultiTaskInputs',
    'PascalContextMTDataset',
    'PhotosDataset',
    'RoomsDataset',
    'SampleCache',
    'SamplePosition',
    'SeededTransforms',
    'TaskonomyDataset',
    'UnreadableFileError',
    'UnreadablePhotoError',
]
