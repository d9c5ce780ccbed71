"""What the datasets that live in folders of files have in common: listing, reading, derived data."""

from ..cache import DerivedCache
from .axes import GENUINE_AXES, NormalAxes, learned_frame, measure_axes
from .base import FilesDataset
from .folders import find_folder, missing_files, read_lines
from .loading import LoadSampleFiles
from .normals import normals_from_bytes, normals_to_bytes
from .palette import palette
from .reader import SampleReader
from .reading import (
    UnreadableFileError,
    read_colours,
    read_indices,
    read_mat,
    read_npy,
    read_png16,
    read_rgb,
)

__all__ = [
    'GENUINE_AXES',
    'DerivedCache',
    'FilesDataset',
    'LoadSampleFiles',
    'NormalAxes',
    'SampleReader',
    'UnreadableFileError',
    'find_folder',
    'learned_frame',
    'measure_axes',
    'missing_files',
    'normals_from_bytes',
    'normals_to_bytes',
    'palette',
    'read_colours',
    'read_indices',
    'read_lines',
    'read_mat',
    'read_npy',
    'read_png16',
    'read_rgb',
]
