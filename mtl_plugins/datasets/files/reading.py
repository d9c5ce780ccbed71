"""Reading of single files: one function per format, each strict about what it is given.

A file is read from disk in one go and decoded from memory, which is what network storage likes best.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import scipy.io

from ..npz import MAGIC, parse_npy
from .jpeg import jpeg_header
from .pictures import SWAPPING, check_pixels, decode_picture, open_picture, orientation_of, say_once
from .png import GREY, PALETTE, PngHeader, png_header
from .source import JPEG, PNG, WRONG_FORMAT, PictureError, UnreadableFileError, fail, kind_of, read_bytes

__all__ = [
    'UnreadableFileError', 'fail', 'read_colours', 'read_indices', 'read_mat', 'read_npy', 'read_png16', 'read_rgb',
]  # fmt: skip


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Read a colour image (PNG, JPEG, WebP, BMP, TIFF, ...) as ``(H, W, 3)`` uint8 in **BGR**, the pipeline's order.

    The image is turned upright as its EXIF orientation says, as in inference; labels belong to the upright image. See
    :func:`~.pictures.decode_picture` for greys, 16 bits and all else.

    Raises:
        UnreadableFileError: If the file is missing, truncated, no image, or has values whose range is not known.
    """
    expected = 'a colour image'
    with _named(path, expected):
        picture = decode_picture(read_bytes(path, expected), path)
    height, width = picture.bgr.shape[:2]
    # A turn that swaps height and width shows in the sizes of the labels, if these were drawn on what is stored.
    if picture.orientation != 1 and (picture.orientation not in SWAPPING or height == width):
        say_once(
            'turned',
            f'{os.fspath(path)} was turned upright as its EXIF orientation {picture.orientation} says, and so are '
            'others like it; their sizes cannot tell whether the labels were drawn on the upright image. If they were '
            'drawn on what is stored, remove the EXIF entry from these files',
        )
    return picture.bgr


def read_colours(path: str | os.PathLike, alpha: bool = False) -> np.ndarray:
    """Read a target that is stored as an 8-bit colour image (PNG or JPEG): ``(H, W, 3)`` uint8 in **RGB** order.

    Args:
        path: The file.
        alpha: Whether a PNG may have an alpha channel, which is dropped.

    Raises:
        UnreadableFileError: If the file is missing, truncated, or has another depth or number of channels.
    """
    expected = 'an image of 3 channels and 8 bits'
    data = read_bytes(path, expected)
    if not data.startswith((PNG, JPEG)):
        fail(path, expected, kind_of(data))
    png = _checked(data, path, expected)
    if png and (png.bits, png.colour_type) not in ((8, 2), (8, 6))[: 1 + alpha]:
        fail(path, expected, str(png), WRONG_FORMAT)
    image = _decode(data, path, expected, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4)[: 1 + alpha]:
        fail(path, expected, f'{image.dtype} of shape {image.shape}', WRONG_FORMAT)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGB)


def read_indices(path: str | os.PathLike) -> np.ndarray:
    """Read an index map from a PNG: ``(H, W)`` uint8.

    The PNG holds 8-bit grey values or palette indices (of up to 8 bits); indices are never turned into colours.

    Raises:
        UnreadableFileError: If the file is missing, truncated, or another kind of image.
    """
    expected = 'a PNG of 8-bit grey values or palette indices'
    data, png = _read_png(path, expected, (8, GREY), *((bits, PALETTE) for bits in (1, 2, 4, 8)))
    if png.colour_type == GREY:
        return _decode(data, path, expected, cv2.IMREAD_GRAYSCALE)
    # OpenCV has no way to get at the indices of a palette image.
    return _guarded(path, expected, lambda: _palette_indices(data))


def read_png16(path: str | os.PathLike) -> np.ndarray:
    """Read a 16-bit grey PNG: ``(H, W)`` uint16.

    Raises:
        UnreadableFileError: If the file is missing, truncated, or another kind of image.
    """
    expected = 'a PNG of 16-bit grey values'
    data, _ = _read_png(path, expected, (16, GREY))
    return _decode(data, path, expected, cv2.IMREAD_UNCHANGED)


def read_npy(path: str | os.PathLike) -> np.ndarray:
    """Read the array of numbers in a ``.npy`` file; never runs code, as arrays of Python objects could.

    Raises:
        UnreadableFileError: If the file is missing, truncated, or holds anything but numbers.
    """
    expected = 'a .npy file with an array of numbers'
    data = read_bytes(path, expected)
    if not data.startswith(MAGIC):
        fail(path, expected, kind_of(data))
    array = _guarded(path, expected, lambda: parse_npy(data))
    if array.dtype.kind not in 'biuf':
        fail(path, expected, f'data type {array.dtype}', WRONG_FORMAT)
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
    data = read_bytes(path, expected)
    if data.startswith((b'MATLAB 7.3', b'\x89HDF')):
        fail(path, expected, 'version 7.3 (HDF5), which no release of this dataset uses')
    content = _guarded(
        path, expected,
        lambda: scipy.io.loadmat(io.BytesIO(data), variable_names=[key], simplify_cells=simplify_cells),
    )  # fmt: skip
    if key not in content:
        names = _guarded(path, expected, lambda: [name for name, *_ in scipy.io.whosmat(io.BytesIO(data))])
        fail(path, expected, f'the variables {", ".join(names) or "(none)"}')
    return content[key]


def _read_png(path: str | os.PathLike, expected: str, *kinds: tuple[int, int]) -> tuple[bytes, PngHeader]:
    """The content of a PNG of one of some kinds, (bits, colour type), and its header."""
    data = read_bytes(path, expected)
    png = _checked(data, path, expected) if data.startswith(PNG) else fail(path, expected, kind_of(data))
    if (png.bits, png.colour_type) not in kinds:
        fail(path, expected, str(png), WRONG_FORMAT)
    return data, png


@contextlib.contextmanager
def _named(path: str | os.PathLike, expected: str) -> Iterator[None]:
    """Name the file in what is said of a picture."""
    try:
        yield
    except PictureError as error:
        fail(path, expected, str(error), error.kind)


def _guarded(path: str | os.PathLike, expected: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # damaged input makes these decoders raise nearly anything
        fail(path, expected, f'a damaged or truncated file ({type(error).__name__}: {error})')


def _decode(data: bytes, path: str | os.PathLike, expected: str, flags: int) -> np.ndarray:
    image = _guarded(path, expected, lambda: cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    if image is None:
        fail(path, expected, f'{kind_of(data)} that cannot be decoded (damaged or truncated)')
    return image


def _palette_indices(data: bytes) -> np.ndarray:
    with open_picture(data) as image:
        return np.array(image, np.uint8)


def _checked(data: bytes, path: str | os.PathLike, expected: str) -> PngHeader | None:
    """Refuse what decoders take without a word: truncated, turned and huge images; returns the header of a PNG."""
    with _named(path, expected):
        header = (png_header if data.startswith(PNG) else jpeg_header)(data)
        check_pixels(header.size)
        orientation = orientation_of(data) if header.has_metadata else 1
    if orientation != 1:
        # Turning the pixels would not do for normals, and it is not known whether a program has looked at the entry.
        fail(path, expected, f'the EXIF orientation {orientation}; store the target upright, without this entry')
    return header if isinstance(header, PngHeader) else None
