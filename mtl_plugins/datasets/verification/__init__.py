"""Verification of dataset folders: layout, counts, content of every file, and hashes to compare with later."""

from .base import (
    REMEDIES,
    CheckJob,
    LayoutCheck,
    LazyJobs,
    Problem,
    get_layout_check,
    layout_check_names,
    make_problem,
)
from .files import (
    check_array,
    check_decodes,
    check_file,
    check_ids,
    check_jpeg,
    check_npy,
    check_png,
    check_size,
    check_target,
    check_values,
)
from .manifest import Manifest, ManifestError, load_manifest, save_manifest
from .report import Report
from .runner import Verification, VerificationError, verify

__all__ = [
    'REMEDIES',
    'CheckJob',
    'LayoutCheck',
    'LazyJobs',
    'Manifest',
    'ManifestError',
    'Problem',
    'Report',
    'Verification',
    'VerificationError',
    'check_array',
    'check_decodes',
    'check_file',
    'check_ids',
    'check_jpeg',
    'check_npy',
    'check_png',
    'check_size',
    'check_target',
    'check_values',
    'get_layout_check',
    'layout_check_names',
    'load_manifest',
    'make_problem',
    'save_manifest',
    'verify',
]
