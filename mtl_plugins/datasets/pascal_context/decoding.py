"""Stored arrays of PASCAL-Context -> our conventions.

The maps of parts are in :mod:`.parts`, normals as colours in :mod:`mtl_plugins.datasets.files.normals`.
"""

import os

import cv2
import numpy as np

from mtl_plugins.structures.thinning import thinned

from ..files.reading import fail, read_mat
from ..files.source import OUT_OF_RANGE, WRONG_FORMAT
from .classes import NORMALS_CLASSES

LABEL_MAP = 'LabelMap'
CONTEXT_CLASSES = 459
_HAS_NORMALS = np.zeros(1 << 16, bool)
_HAS_NORMALS[list(NORMALS_CLASSES)] = True


def read_label_map(path: str | os.PathLike) -> np.ndarray:
    """Read the map of the 459 classes (0: none): ``(H, W)`` uint16.

    Raises:
        UnreadableFileError: If the file is missing, damaged or holds something else.
    """
    expected = f'a map (H, W) of class ids 0..{CONTEXT_CLASSES}, the variable {LABEL_MAP}'
    labels = read_mat(path, LABEL_MAP)
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in 'iuf' or labels.size == 0:
        found = f'{getattr(labels, "dtype", type(labels).__name__)} of shape {np.shape(labels)}'
        fail(path, expected, found, WRONG_FORMAT)
    if not labels.min() >= 0 or not labels.max() <= CONTEXT_CLASSES:  # "not" also finds NaN
        fail(path, expected, f'values from {labels.min()} to {labels.max()}', OUT_OF_RANGE)
    whole = labels.astype(np.uint16)
    if labels.dtype.kind == 'f' and (whole != labels).any():
        fail(path, expected, 'numbers that are not whole', WRONG_FORMAT)
    return whole


def label_edges(labels: np.ndarray) -> np.ndarray:
    """Edges of a label map: where its Laplacian is not zero, thinned to lines of one pixel.

    This is the released loaders' rule, with its peculiarity: a pixel whose neighbours' ids cancel out (such as 1 2 3 in
    a row) is no edge.

    Args:
        labels: ``(H, W)`` integers.

    Returns:
        ``(H, W)`` uint8, 0 or 1.
    """
    # Laplacian does not take int32; double precision is exact for ids.
    return thinned(cv2.Laplacian(labels.astype(np.float64), cv2.CV_64F)).astype(np.uint8)


def label_borders(labels: np.ndarray) -> np.ndarray:
    """Borders of a label map: pixels that differ from their right, lower or lower right neighbour, thinned.

    This is how the tools behind the published odsF draw the ground truth (``seg2bmap`` at the map's own size), whereas
    the released loaders train on :func:`label_edges`.

    Args:
        labels: ``(H, W)`` integers.

    Returns:
        ``(H, W)`` uint8, 0 or 1.
    """
    border = np.zeros(labels.shape, bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    border[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return thinned(border).astype(np.uint8)


EDGE_RULES = {'laplacian': label_edges, 'borders': label_borders}
"""How edges are drawn from LabelMap."""


def mask_normals(normals: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Set normals to zero wherever the label map shows none of :data:`.classes.NORMALS_CLASSES`.

    Args:
        normals: ``(H, W, 3)``; changed in place.
        labels: ``(H, W)`` uint16.
    """
    normals[~_HAS_NORMALS.take(labels)] = 0
    return normals
