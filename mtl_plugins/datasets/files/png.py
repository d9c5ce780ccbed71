"""The chunks of a PNG: header, checksums, and whether it is complete, without decoding it."""

import struct
import zlib
from typing import NamedTuple

from .source import PNG, UNREADABLE, PictureError

GREY, PALETTE = 0, 3
# Colour type of the header -> name, channels as stored (a palette stores one index per pixel).
_COLOURS = {
    GREY: ('grey', 1),
    2: ('RGB', 3),
    PALETTE: ('palette', 1),
    4: ('grey with alpha', 2),
    6: ('RGB with alpha', 4),
}
_WITH_ORIENTATION = (b'eXIf', b'tEXt', b'zTXt', b'iTXt')


class DamagedFileError(PictureError):
    """A file is truncated, altered, or not of the expected format."""

    def __init__(self, found: str) -> None:
        super().__init__(found, UNREADABLE)


class PngHeader(NamedTuple):
    """What a PNG says of itself.

    Attributes:
        size: (height, width) as stored.
        channels: As stored; a palette has one.
        bits: Per channel.
        colours: Name of the colour type.
        colour_type: Its number.
        has_metadata: Whether there are chunks that may tell an orientation.
        frames: Pictures in the file, more than one if it is animated.
    """

    size: tuple[int, int]
    channels: int
    bits: int
    colours: str
    colour_type: int
    has_metadata: bool
    frames: int

    def __str__(self) -> str:
        return f'a PNG of {self.bits} bits, {self.colours}'


def png_header(data: bytes) -> PngHeader:
    """Read the header of a PNG and check that all its chunks are there, each with the right checksum.

    Decoders return the upper part of a truncated file without a word; this does not.

    Raises:
        DamagedFileError: If ``data`` is no PNG, or is truncated or altered.
    """
    if not data.startswith(PNG):
        raise DamagedFileError('no PNG')
    view, position, header, has_metadata, frames = memoryview(data), len(PNG), None, False, 1
    while True:
        if len(data) < position + 12:
            raise DamagedFileError(f'a PNG that is truncated after {len(data)} bytes: it has no end chunk')
        length, name = struct.unpack_from('>I4s', data, position)
        end = position + 8 + length
        if len(data) < end + 4:
            raise DamagedFileError(f'a PNG that is truncated after {len(data)} bytes, in the middle of its data')
        if struct.unpack_from('>I', data, end)[0] != zlib.crc32(view[position + 4 : end]):
            raise DamagedFileError('a PNG that was altered: the checksum of its data is wrong')
        if header is None:
            if name != b'IHDR' or length != 13:
                raise DamagedFileError('a PNG whose first chunk is not the header')
            header = struct.unpack_from('>IIBB', data, position + 8)
            if header[3] not in _COLOURS or not header[0] or not header[1]:
                raise DamagedFileError(f'a PNG of {header[1]} x {header[0]} pixels and of colour type {header[3]}')
        has_metadata |= name in _WITH_ORIENTATION
        if name == b'acTL' and length == 8:
            frames = struct.unpack_from('>I', data, position + 8)[0]
        if name == b'IEND':
            width, height, bits, colour_type = header
            colours, channels = _COLOURS[colour_type]
            return PngHeader((height, width), channels, bits, colours, colour_type, has_metadata, frames)
        position = end + 4
