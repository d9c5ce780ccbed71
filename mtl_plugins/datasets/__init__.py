"""Datasets, their samplers and their transforms."""

from .cache import CacheError, SampleCache
from .concat import MultiTaskConcatDataset
from .files import DerivedCache, FilesDataset, LoadSampleFiles, UnreadableFileError
from .hold_out import HoldOut
from .mixing import MixedSampler
from .nyud import NYUDv2Dataset
from .pascal_context import PascalContextMTDataset
from .photo_files import UnreadablePhotoError
from .photos import PhotosDataset
from .presence import sample_tasks
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
    RandomLabelSubset,
    SeededTransforms,
)

__all__ = [
    'AbsoluteSampler',
    'CacheError',
    'CheckTargets',
    'DerivedCache',
    'FilesDataset',
    'HoldOut',
    'LoadCachedSample',
    'LoadSampleFiles',
    'MixedSampler',
    'MultiTaskConcatDataset',
    'MultiTaskPad',
    'MultiTaskRandomCrop',
    'MultiTaskRandomFlip',
    'MultiTaskRandomScale',
    'NYUDv2Dataset',
    'PackMultiTaskInputs',
    'PascalContextMTDataset',
    'PhotosDataset',
    'RandomLabelSubset',
    'RoomsDataset',
    'SampleCache',
    'SamplePosition',
    'SeededTransforms',
    'TaskonomyDataset',
    'UnreadableFileError',
    'UnreadablePhotoError',
    'sample_tasks',
]
