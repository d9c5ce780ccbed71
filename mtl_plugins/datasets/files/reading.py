"""Reading of single files: one function per format, each strict about what it is given.

A file is read from disk in one go and decoded from memory, which is what network storage likes best.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, NoReturn

import cv2
import numpy as np
import scipy.io
from PIL import Image

from mtl_plugins.errors import UserError

_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_END = b'\x00\x00\x00\x00IEND\xaeB`\x82'
_JPEG = b'\xff\xd8'
_JPEG_END = b'\xff\xd9'
_TAIL = 4096
"""Some programs append a few bytes behind the end of an image; the end mark is looked for in this many."""
_GREY, _PALETTE = 0, 3
_COLOUR_TYPES = {_GREY: 'grey', 2: 'RGB', _PALETTE: 'palette', 4: 'grey with alpha', 6: 'RGB with alpha'}


class UnreadableFileError(UserError):
    """A file of a data set is missing, damaged or of another kind than it should be; the message names it.

    Attributes:
        expected: What the file should be; empty if unknown.
        found: What it is.
    """

    expected: str = ''
    found: str = ''


def fail(path: str | os.PathLike, expected: str, found: str) -> NoReturn:
    """Raise :class:`UnreadableFileError` for ``path``."""
    error = UnreadableFileError(
        f'{os.fspath(path)}: expected {expected}, but found {found}. Restore the file from the archive (or load the '
        'data set with allow_missing=True after removing it); tools/datasets/verify.py lists all damaged files'
    )
    error.expected, error.found = expected, found
    raise error


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Read a colour image (PNG, JPEG, ...) as ``(H, W, 3)`` uint8 in **BGR** order, the order of the pipeline.

    Rotation tags (EXIF) are ignored, since labels belong to the pixels as they are stored.

    Raises:
        UnreadableFileError: If the file is missing, truncated or no image.
    """
    expected = 'a colour image'
    data = _bytes(path, expected)
    _check_complete(data, path, expected)
    return _decode(data, path, expected, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def read_colours(path: str | os.PathLike, alpha: bool = False) -> np.ndarray:
    """Read a target that is stored as an 8-bit colour image (PNG or JPEG): ``(H, W, 3)`` uint8 in **RGB** order.

    Args:
        path: The file.
        alpha: Whether a PNG may have an alpha channel, which is dropped.

    Raises:
        UnreadableFileError: If the file is missing, truncated, or has another depth or number of channels.
    """
    expected = 'an image of 3 channels and 8 bits'
    data = _bytes(path, expected)
    _check_complete(data, path, expected)
    if data.startswith(_PNG) and _png_kind(data) not in ((8, 2), (8, 6))[: 1 + alpha]:
        fail(path, expected, _png_text(data))
    image = _decode(data, path, expected, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4)[: 1 + alpha]:
        fail(path, expected, f'{image.dtype} of shape {image.shape}')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGB)


def read_indices(path: str | os.PathLike) -> np.ndarray:
    """Read an index map from a PNG: ``(H, W)`` uint8.

    The PNG holds 8-bit grey values or palette indices (of up to 8 bits); indices are never turned into colours.

    Raises:
        UnreadableFileError: If the file is missing, truncated, or another kind of image.
    """
    expected = 'a PNG of 8-bit grey values or palette indices'
    data = _bytes(path, expected)
    if not data.startswith(_PNG):
        fail(path, expected, _kind(data))
    _check_complete(data, path, expected)
    bits, colour_type = _png_kind(data)
    if (bits, colour_type) == (8, _GREY):
        return _decode(data, path, expected, cv2.IMREAD_GRAYSCALE)
    if colour_type != _PALETTE:
        fail(path, expected, _png_text(data))
    # OpenCV has no way to get at the indices of a palette image.
    return _guarded(path, expected, lambda: _palette_indices(data))


def read_png16(path: str | os.PathLike) -> np.ndarray:
    """Read a 16-bit grey PNG: ``(H, W)`` uint16.

    Raises:
        UnreadableFileError: If the file is missing, truncated, or another kind of image.
    """
    expected = 'a PNG of 16-bit grey values'
    data = _bytes(path, expected)
    if not data.startswith(_PNG):
        fail(path, expected, _kind(data))
    _check_complete(data, path, expected)
    if _png_kind(data) != (16, _GREY):
        fail(path, expected, _png_text(data))
    return _decode(data, path, expected, cv2.IMREAD_UNCHANGED)


def read_npy(path: str | os.PathLike) -> np.ndarray:
    """Read the array of numbers in a ``.npy`` file; never runs code, as arrays of Python objects could.

    Raises:
        UnreadableFileError: If the file is missing, truncated, or holds anything but numbers.
    """
    expected = 'a .npy file with an array of numbers'
    data = _bytes(path, expected)
    if not data.startswith(b'\x93NUMPY'):
        fail(path, expected, _kind(data))
    array = _guarded(path, expected, lambda: np.load(io.BytesIO(data), allow_pickle=False))
    if array.dtype.kind not in 'biuf':
        fail(path, expected, f'data type {array.dtype}')
    return array


def read_mat(path: str | os.PathLike, key: str, simplify_cells: bool = False) -> Any:
    """Read one variable of a MATLAB file (versions up to 7).

    Args:
        path: The file.
        key: Name of the variable.
        simplify_cells: Turn structs into dicts and cells into lists, see :func:`scipy.io.loadmat`.

    Raises:
        UnreadableFileError: If the file is missing, damaged, of version 7.3, or lacks the variable.
    """
    expected = f"a MATLAB file (version 5 to 7) with the variable '{key}'"
    data = _bytes(path, expected)
    if data.startswith((b'MATLAB 7.3', b'\x89HDF')):
        fail(path, expected, 'version 7.3 (HDF5), which no release of this data set uses')
    content = _guarded(
        path, expected,
        lambda: scipy.io.loadmat(io.BytesIO(data), variable_names=[key], simplify_cells=simplify_cells),
    )  # fmt: skip
    if key not in content:
        names = _guarded(path, expected, lambda: [name for name, *_ in scipy.io.whosmat(io.BytesIO(data))])
        fail(path, expected, f'the variables {", ".join(names) or "(none)"}')
    return content[key]


def _bytes(path: str | os.PathLike, expected: str) -> bytes:
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except FileNotFoundError:
        fail(path, expected, 'no such file')
    except OSError as error:
        fail(path, expected, f'that it cannot be read ({error})')
    if not data:
        fail(path, expected, 'an empty file')
    return data


def _guarded(path: str | os.PathLike, expected: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # damaged input makes these decoders raise nearly anything
        fail(path, expected, f'a damaged or truncated file ({type(error).__name__}: {error})')


def _decode(data: bytes, path: str | os.PathLike, expected: str, flags: int) -> np.ndarray:
    image = _guarded(path, expected, lambda: cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    if image is None:
        fail(path, expected, f'{_kind(data)} that cannot be decoded (damaged or truncated)')
    return image


def _palette_indices(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image, np.uint8)


def _check_complete(data: bytes, path: str | os.PathLike, expected: str) -> None:
    """Look for the end mark: several decoders return the part of a truncated image that they could read."""
    for begin, end in ((_PNG, _PNG_END), (_JPEG, _JPEG_END)):
        if data.startswith(begin) and end not in data[-_TAIL:]:
            fail(path, expected, f'{_kind(data)} that is truncated after {len(data)} bytes')


def _png_kind(data: bytes) -> tuple[int, int]:
    """Bits per channel and colour type, from the header."""
    return (data[24], data[25]) if len(data) > 25 else (0, -1)


def _png_text(data: bytes) -> str:
    bits, colour_type = _png_kind(data)
    return f'a PNG of {bits} bits, {_COLOUR_TYPES.get(colour_type, "damaged header")}'


def _kind(data: bytes) -> str:
    for begin, name in (
        (_PNG, 'a PNG'),
        (_JPEG, 'a JPEG'),
        (b'\x93NUMPY', 'a .npy file'),
        (b'MATLAB', 'a MATLAB file'),
        (b'version https://git-lfs', 'a Git LFS pointer instead of the file'),
        (b'<', 'a web page or XML'),
    ):
        if data.startswith(begin):
            return name
    return f'unknown content (first bytes {data[:8]!r})'
