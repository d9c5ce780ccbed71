"""The axes of the stored normals, measured against depth."""

from __future__ import annotations

import contextlib

import numpy as np

from ..files import NormalAxes, UnreadableFileError
from ..verification.axes import AxesFinding
from .decoding import NO_DATA, NORMAL_AXES, UNITS_PER_METRE, decode, read_codes
from .index import Index
from .layout import Z_BUFFER

_MEASURED = 8
_FOCAL = 0.85
"""Focal length per pixel of width: a field of view of 61 degrees, the mean of Taskonomy."""


def find_axes(index: Index) -> AxesFinding:
    """The axes that a few images show."""
    both = np.flatnonzero(index.has(Z_BUFFER) & index.has('normal'))
    pairs = []
    for row in both[:: max(1, len(both) // _MEASURED)][:_MEASURED]:
        with contextlib.suppress(UnreadableFileError):  # the job of this image says what is wrong with it
            depth, codes = (read_codes(domain, index.path(domain, row)) for domain in (Z_BUFFER, 'normal'))
            if depth.shape == codes.shape[:2]:
                metres = np.where(depth == NO_DATA, 0, depth / UNITS_PER_METRE)
                pairs.append((metres, decode('normal', codes, depth != NO_DATA, NormalAxes())))
    return AxesFinding.of(pairs, _FOCAL, NORMAL_AXES)
