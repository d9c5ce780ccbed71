"""Verification of dataset folders: layout, counts, content of every file, and hashes to compare with later."""

from .base import CheckJob, LayoutCheck, Problem
from .files import (
    check_array,
    check_decodes,
    check_ids,
    check_jpeg,
    check_npy,
    check_png,
    check_size,
    check_target,
    check_values,
)
from .kinds import REMEDIES, make_problem
from .registry import get_layout_check, layout_check_names, register_layout_check

__all__ = [
    'REMEDIES',
    'CheckJob',
    'LayoutCheck',
    'Problem',
    'check_array',
    'check_decodes',
    'check_ids',
    'check_jpeg',
    'check_npy',
    'check_png',
    'check_size',
    'check_target',
    'check_values',
    'get_layout_check',
    'layout_check_names',
    'make_problem',
    'register_layout_check',
]
