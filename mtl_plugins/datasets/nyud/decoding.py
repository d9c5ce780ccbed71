"""From the files of NYUD-v2 to our conventions, and back."""

import io
import os

import cv2
import numpy as np
import scipy.io

from ..files import (
    NormalAxes,
    SampleReader,
    normals_from_bytes,
    normals_to_bytes,
    read_colours,
    read_indices,
    read_mat,
    read_npy,
)
from ..files.binary import THRESHOLD, marked, mixed_codes
from ..files.normals import unit_or_zero
from ..files.reading import fail
from ..files.source import OUT_OF_RANGE, WRONG_FORMAT
from .layout import MAT_KEYS, Packaging

FARTHEST = 20.0
"""Metres. The camera sees about 10 m far; more means another unit."""
NORMAL_TOLERANCE = 0.1
_FLOATS = ('float16', 'float32', 'float64')
DTYPES = {'edge': ('bool', 'uint8', *_FLOATS), 'depth': _FLOATS, 'normals': ('uint8', *_FLOATS)}
"""Task -> data types that its arrays may have; classes may have any that holds whole numbers."""
_SAMPLED = 8
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
# Normals lose more than pictures do when JPEG stores colour at half resolution.
_JPEG_NORMALS = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


class NYUDv2Reader(SampleReader):
    """Reads the targets of a sample, whatever the packaging: the endings of the files say how.

    Args:
        axes: Axes of the stored normals.
    """

    def __init__(self, axes: NormalAxes) -> None:
        self.axes = axes

    def read_target(self, task: str, results: dict) -> np.ndarray:
        """The target of a sample, see :func:`read_target`; normals in our axes."""
        target = read_target(task, results['files'][task])
        return self.axes.to_ours(target) if task == 'normals' else target


def read_stored(task: str, path: str | os.PathLike) -> np.ndarray:
    """The array in a file as it is stored: ``(H, W)``, for normals ``(H, W, 3)``.

    Raises:
        UnreadableFileError: If the file is missing, damaged or of another kind.
    """
    ending = os.path.splitext(path)[1]
    if ending == '.npy':
        stored = read_npy(path)
    elif ending == '.mat':
        stored = _numbers(path, read_mat(path, MAT_KEYS[task]))
    else:
        stored = read_colours(path) if task == 'normals' else read_indices(path)
    if task != 'normals' and stored.ndim == 3 and stored.shape[2] == 1:
        stored = stored[:, :, 0]
    expected = '(H, W, 3)' if task == 'normals' else '(H, W)'
    if stored.ndim != expected.count(',') + 1 or (task == 'normals' and stored.shape[2] != 3) or not stored.size:
        fail(path, f'an array of shape {expected}', f'shape {stored.shape}')
    if task in DTYPES and stored.dtype.name not in DTYPES[task]:
        fail(path, f'data type {" or ".join(DTYPES[task])}', stored.dtype.name, WRONG_FORMAT)
    return stored


def read_target(task: str, path: str | os.PathLike) -> np.ndarray:
    """A target in our conventions.

    * ``semseg``: ``(H, W)`` uint8, class ids 0..39; 255 where the file says 0 (not labelled).
    * ``edge``: ``(H, W)`` uint8, 0 or 1.
    * ``depth``: ``(H, W)`` float32 in metres as in the file; 0 means not known.
    * ``normals``: ``(H, W, 3)`` float32, unit vectors; zero where the file has no direction. Axes as in the file,
      see docs/data_preparation.md.

    Raises:
        UnreadableFileError: If the file is missing, damaged or of another kind, or its values are those of another
            format or unit.
    """
    stored = read_stored(task, path)
    wrong = _other_values(task, stored)
    if wrong:
        fail(path, *wrong, OUT_OF_RANGE)
    return decode(task, stored, path)


def decode(task: str, stored: np.ndarray, path: str | os.PathLike = '') -> np.ndarray:
    """A stored array in our conventions; ``path`` is for messages."""
    if task == 'semseg':
        return _bytes(path, stored) - np.uint8(1)  # 0, not labelled, wraps around to 255
    if task == 'edge':
        return marked(stored) if stored.dtype == np.uint8 else (stored > 0.5).astype(np.uint8)
    if task == 'depth':
        return np.asarray(stored, np.float32)
    return normals_from_bytes(stored) if stored.dtype == np.uint8 else unit_or_zero(stored)


def _other_values(task: str, stored: np.ndarray) -> tuple[str, str] | None:
    """What was expected and found, if values are those of another format or unit, which decoding would hide."""
    if task == 'edge' and stored.dtype == np.uint8:
        found = f'at most {stored.max()}' if 1 < stored.max() <= THRESHOLD else mixed_codes(stored)
        if found:
            return 'edges of 0 and 255 (or 0 and 1)', found
    elif task == 'edge':
        if not ((stored == 0) | (stored == 1)).all():
            return 'edges of 0 and 1', f'{stored.min():g}..{stored.max():g}'
    elif task == 'depth':
        if (stored > FARTHEST).any():
            return 'depth in metres (about 0.7 to 10)', f'up to {np.nanmax(stored):g}'
    elif task == 'normals' and stored.dtype != np.uint8:
        # Of some of the pixels: that is enough for another unit, and it is done for each sample of the training.
        length = np.linalg.norm(stored[::_SAMPLED, ::_SAMPLED].astype(np.float64), axis=-1)
        length = length[length > 0]
        if length.size and not abs(np.median(length) - 1) < NORMAL_TOLERANCE:
            return 'normals of length 1 or 0', f'a median length of {np.median(length):.3g}'
    return None


def encode_image(rgb: np.ndarray, ending: str) -> bytes:
    """The file with an image of a packaging whose images end in ``ending``."""
    return _encoded(rgb[..., ::-1], ending, _JPEG)


def encode_target(task: str, target: np.ndarray, packaging: Packaging) -> bytes:
    """The file with a target as the packaging stores it: the inverse of :func:`read_target`.

    Args:
        task: Key of the task.
        target: In our conventions.
        packaging: The packaging.
    """
    ending, file = packaging.targets[task], io.BytesIO()
    if ending == '.npy':
        np.save(file, target.astype(np.float32))
    elif ending == '.mat':
        stored = target + np.uint8(1) if task == 'semseg' else target.astype(np.float64)
        scipy.io.savemat(file, {MAT_KEYS[task]: stored}, do_compression=True)
    elif task == 'normals':
        return _encoded(normals_to_bytes(target)[..., ::-1], ending, _JPEG_NORMALS)
    else:
        return _encoded(target + np.uint8(1) if task == 'semseg' else target * np.uint8(255), ending, _JPEG)
    return file.getvalue()


def _encoded(pixels: np.ndarray, ending: str, jpeg: list[int]) -> bytes:
    return cv2.imencode(ending, np.ascontiguousarray(pixels), jpeg if ending == '.jpg' else [])[1].tobytes()


def _numbers(path: str | os.PathLike, value: object) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in 'biuf':
        fail(path, 'an array of numbers', f'{getattr(value, "dtype", type(value).__name__)}')
    return value


def _bytes(path: str | os.PathLike, stored: np.ndarray) -> np.ndarray:
    """Class ids as uint8, which MATLAB may have stored as any other type."""
    if stored.dtype == np.uint8:
        return stored
    if not np.isfinite(stored).all() or stored.min() < 0 or stored.max() > 255 or (stored != np.floor(stored)).any():
        found = f'values {stored.min():g}..{stored.max():g}'
        fail(path, 'whole numbers, 0 for not labelled or a class 1..40', found, OUT_OF_RANGE)
    return stored.astype(np.uint8)
