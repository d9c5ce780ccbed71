"""What the first bytes of image files and arrays say, and whether the files are complete, without decoding them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtl_plugins.datasets.files.png import DamagedFileError, PngHeader, png_header
from mtl_plugins.datasets.files.source import PNG, kind_of, special_file

__all__ = ['DamagedFileError', 'NpyHeader', 'PngHeader', 'read_npy_header', 'read_png_header']


@dataclass(frozen=True)
class NpyHeader:
    """Shape and data type of the array in an ``.npy`` file."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_png_header(path: Path) -> PngHeader:
    """See :func:`~mtl_plugins.datasets.files.png.png_header`.

    Raises:
        FileNotFoundError: If the file is missing.
        DamagedFileError: If the file is no PNG, or is truncated or altered.
    """
    special = special_file(path)
    if special:
        raise DamagedFileError(f'expected a PNG file, found {special}')
    data = path.read_bytes()
    if not data.startswith(PNG):
        raise DamagedFileError(f'expected a PNG file, found {kind_of(data) if data else "an empty file"}')
    return png_header(data)


def read_npy_header(path: Path) -> NpyHeader:
    """Read the header of an ``.npy`` file and check that the file has the length the header promises.

    Raises:
        DamagedFileError: If the file is no ``.npy`` file, holds Python objects, or is truncated.
    """
    special = special_file(path)
    if special:
        raise DamagedFileError(f'expected a .npy file of numpy, found {special}')
    with open(path, 'rb') as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        except ValueError as error:
            raise DamagedFileError(f'expected a .npy file of numpy, but its header cannot be read ({error})') from error
        if dtype.hasobject:
            raise DamagedFileError('expected an array of numbers, but it holds Python objects')
        expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        start = file.tell()
        found = file.seek(0, 2) - start
    if found != expected:
        what = 'is truncated' if found < expected else 'is too long'
        raise DamagedFileError(f'the .npy file {what}: its header promises {expected} bytes, it has {found}')
    return NpyHeader(shape, dtype)
