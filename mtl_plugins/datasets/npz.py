"""Reading of small arrays from ``.npz`` files, of which a training run reads thousands per second."""

import io
import math
import zipfile
from collections.abc import Iterable
from functools import lru_cache
from typing import BinaryIO

import numpy as np

MAGIC = b'\x93NUMPY'


def read_npz(file: BinaryIO, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read some arrays of an open ``.npz`` file; only these are read from disk.

    Gives what :func:`numpy.load` gives, which spends most of its time on small arrays with parsing headers that are
    the same in each file. Checksums are verified; arrays of objects are refused.

    Args:
        file: The open file.
        names: The arrays, by default all.

    Raises:
        Exception: Nearly anything, if the file is damaged (from ``BadZipFile`` to ``ValueError``); ``KeyError`` if an
            array is not in it.
    """
    with zipfile.ZipFile(file) as archive:
        if names is None:
            names = [name.removesuffix('.npy') for name in archive.namelist()]
        return {name: parse_npy(archive.read(f'{name}.npy')) for name in names}


def parse_npy(data: bytes) -> np.ndarray:
    """The array that the content of an ``.npy`` file holds.

    Raises:
        ValueError: If it is none, is truncated or too long, or holds Python objects.
    """
    if not data.startswith(MAGIC):
        raise ValueError('no .npy file')
    # Magic string (6), version (2), length of the header: 2 bytes in version 1, 4 bytes since.
    start = 10 if data[6:7] == b'\x01' else 12
    start += int.from_bytes(data[8:start], 'little')
    shape, fortran_order, dtype = _header(data[:start])
    expected = math.prod(shape) * dtype.itemsize
    if len(data) - start != expected:
        what = 'is truncated' if len(data) - start < expected else 'is too long'
        raise ValueError(f'it {what}: its header promises {expected} bytes, it has {len(data) - start}')
    # A bytearray, since arrays on bytes are read-only.
    array = np.frombuffer(bytearray(memoryview(data)[start:]), dtype)
    return array.reshape(shape, order='F' if fortran_order else 'C')


@lru_cache(maxsize=1024)
def _header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    stream = io.BytesIO(header)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError('arrays of objects are not read: Python objects could run code')
    return shape, fortran_order, dtype
