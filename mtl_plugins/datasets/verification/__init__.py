"""Verification of dataset folders: layout, counts, content of every file, and hashes to compare with later."""

from .base import CheckJob, LayoutCheck, Problem
from .registry import get_layout_check, layout_check_names, register_layout_check

__all__ = ['CheckJob', 'LayoutCheck', 'Problem', 'get_layout_check', 'layout_check_names', 'register_layout_check']
