"""What the first bytes of image files and arrays say, and whether the files are complete, without decoding them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mtl_plugins.errors import UserError

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
# Colour type of the header -> name, channels as stored (a palette stores one index per pixel).
_PNG_COLOURS = {0: ('grey', 1), 2: ('RGB', 3), 3: ('palette', 1), 4: ('grey + alpha', 2), 6: ('RGB + alpha', 4)}


class DamagedFileError(UserError):
    """A file is truncated, altered, or not of the expected format."""


@dataclass(frozen=True)
class PngHeader:
    """Size, channels as stored, bits per channel and the name of the colour type of a PNG file."""

    size: tuple[int, int]
    channels: int
    bits: int
    colours: str


@dataclass(frozen=True)
class NpyHeader:
    """Shape and data type of the array in an ``.npy`` file."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_png_header(path: Path) -> PngHeader:
    """Read the header of a PNG file and check that all its chunks are there, each with the right checksum.

    Decoders return the upper part of a truncated file without a word; this does not.

    Raises:
        DamagedFileError: If the file is no PNG, or is truncated or altered.
    """
    with open(path, 'rb') as file:
        if file.read(len(_PNG_SIGNATURE)) != _PNG_SIGNATURE:
            raise DamagedFileError('expected a PNG file, but it does not begin like one')
        header = None
        while True:
            name, data = _read_chunk(file)
            if header is None:
                if name != b'IHDR' or len(data) != 13:
                    raise DamagedFileError('expected a PNG file, but its first chunk is not the header')
                width, height, bits, colour_type = struct.unpack('>IIBB', data[:10])
                if colour_type not in _PNG_COLOURS:
                    raise DamagedFileError(f'the header names the unknown colour type {colour_type}')
                colours, channels = _PNG_COLOURS[colour_type]
                header = PngHeader((height, width), channels, bits, colours)
            if name == b'IEND':
                return header


def _read_chunk(file: BinaryIO) -> tuple[bytes, bytes]:
    start = file.read(8)
    if len(start) < 8:
        raise DamagedFileError('the PNG file is truncated: it has no end chunk')
    length, name = struct.unpack('>I4s', start)
    data, checksum = file.read(length), file.read(4)
    if len(data) < length or len(checksum) < 4:
        raise DamagedFileError('the PNG file is truncated in the middle of its data')
    if struct.unpack('>I', checksum)[0] != zlib.crc32(data, zlib.crc32(name)):
        raise DamagedFileError('the PNG file was altered: the checksum of its data is wrong')
    return name, data


def read_npy_header(path: Path) -> NpyHeader:
    """Read the header of an ``.npy`` file and check that the file has the length the header promises.

    Raises:
        DamagedFileError: If the file is no ``.npy`` file, holds Python objects, or is truncated.
    """
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
