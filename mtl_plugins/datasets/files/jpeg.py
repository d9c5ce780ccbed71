"""The segments in front of the picture of a JPEG, and whether it is complete, without decoding it."""

import struct
from typing import NamedTuple

from .png import DamagedFileError

_NO_LENGTH = (0x01, *range(0xD0, 0xD9))
_NOT_FRAME = (0xC4, 0xC8, 0xCC)
"""Of the markers 0xC0..0xCF, which begin a picture, those that do not."""
_SCAN, _APP1 = 0xDA, 0xE1
_END = b'\xff\xd9'


class JpegHeader(NamedTuple):
    """What a JPEG says of itself.

    Attributes:
        size: (height, width) as stored.
        channels: 1, 3 or 4.
        has_metadata: Whether there is a segment that may tell an orientation.
    """

    size: tuple[int, int]
    channels: int
    has_metadata: bool


def jpeg_header(data: bytes) -> JpegHeader:
    """Read the segments of a JPEG up to its picture, and look for the end mark behind.

    Decoders fill the missing part of a truncated picture with grey. What stands behind the end (a second picture, a
    short film) is not looked at.

    Raises:
        DamagedFileError: If ``data`` is no JPEG, or is truncated.
    """
    position, frame, has_metadata = 2, None, False
    try:
        while True:
            mark, code = struct.unpack_from('>BB', data, position)
            if mark != 0xFF:
                raise DamagedFileError(f'a JPEG that is damaged at byte {position}')
            if code == 0xFF:  # filling
                position += 1
                continue
            if code in _NO_LENGTH:
                position += 2
                continue
            (length,) = struct.unpack_from('>H', data, position + 2)
            if 0xC0 <= code <= 0xCF and code not in _NOT_FRAME:
                frame = struct.unpack_from('>xHHB', data, position + 4)
            if code == _SCAN:
                break
            has_metadata |= code == _APP1
            position += 2 + length
    except struct.error:
        raise DamagedFileError(f'a JPEG that is truncated after {len(data)} bytes') from None
    if data.rfind(_END, position) < 0:
        raise DamagedFileError(f'a JPEG that is truncated after {len(data)} bytes')
    if frame is None or not frame[1]:
        raise DamagedFileError('a JPEG without a size')
    return JpegHeader(frame[:2], frame[2], has_metadata)
