"""Picture files of all kinds, written by hand or by Pillow, beside what they show."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

SIZE = (24, 36)
ORIENTATION = 0x0112


class Kind(NamedTuple):
    """A kind of picture file.

    Args:
        suffix: Ending of its name.
        encode: (RGB colours, EXIF orientation) -> content.
        tolerance: Mean absolute error that compression may cause; None if such files are to be refused.
        grey: Whether it shows the colours' first channel alone.
    """

    suffix: str
    encode: Callable[[np.ndarray, int], bytes]
    tolerance: float | None = 0.0
    grey: bool = False


def shape(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Smooth colours ``(H, W, 3)`` uint8 that no turn or mirror maps onto itself, using the whole range."""
    rows, columns = np.indices(size) / np.reshape(size, (2, 1, 1))
    colours = np.stack([rows, columns, (rows**2 + columns) / 2], -1) * rng.uniform(0.8, 1, 3)
    colours = (colours - colours.min()) / (colours.max() - colours.min())
    return np.rint(colours * 255).astype(np.uint8)


def exif(orientation: int) -> Image.Exif:
    entries = Image.Exif()
    if orientation != 1:
        entries[ORIENTATION] = orientation
    return entries


def by_pillow(form: str, mode: str = 'RGB', **options) -> Callable[[np.ndarray, int], bytes]:
    def encode(colours: np.ndarray, orientation: int) -> bytes:
        image, stream = Image.fromarray(colours), io.BytesIO()
        if mode == 'RGBA':
            image.putalpha(Image.fromarray(colours[..., 1]))
        elif mode == 'L':
            image = Image.fromarray(np.ascontiguousarray(colours[..., 0]))
        elif mode == 'P':
            image = image.quantize(256)
        elif mode == '1':
            image = Image.fromarray(np.ascontiguousarray(colours[..., 0] > 127))
        else:
            image = image.convert(mode)
        image.save(stream, form, exif=exif(orientation), **options)
        return stream.getvalue()

    return encode


def png(values: np.ndarray, orientation: int = 1) -> bytes:
    """A PNG of ``(H, W)`` or ``(H, W, 3)`` uint8 or uint16."""
    height, width = values.shape[:2]
    bits = 8 * values.dtype.itemsize
    rows = values.astype(values.dtype.newbyteorder('>')).reshape(height, -1)
    raw = b''.join(b'\0' + row.tobytes() for row in rows)
    header = struct.pack('>IIBBBBB', width, height, bits, 2 if values.ndim == 3 else 0, 0, 0, 0)
    turn = b'' if orientation == 1 else _chunk(b'eXIf', exif(orientation).tobytes().removeprefix(b'Exif\0\0'))
    body = _chunk(b'IHDR', header) + turn + _chunk(b'IDAT', zlib.compress(raw)) + _chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def tiff(values: np.ndarray, orientation: int = 1, interpretation: int | None = None) -> bytes:
    """An uncompressed TIFF of ``(H, W)`` or ``(H, W, C)`` of any type of numbers."""
    height, width = values.shape[:2]
    if interpretation is None:
        interpretation = 1 if values.ndim == 2 else 2
    channels = 1 if values.ndim == 2 else values.shape[2]
    bits, kind = 8 * values.dtype.itemsize, {'u': 1, 'i': 2, 'f': 3}[values.dtype.kind]
    raw = np.ascontiguousarray(values).astype(values.dtype.newbyteorder('<')).tobytes()
    raw += b'\0' * (len(raw) % 2)
    behind = 8 + len(raw) + 2 + 12 * 11 + 4
    short, long = (
        (lambda tag, value: struct.pack('<HHIHH', tag, 3, 1, value, 0)),
        (lambda tag, value: struct.pack('<HHII', tag, 4, 1, value)),
    )
    each = lambda tag, value, at: (  # noqa: E731
        short(tag, value) if channels == 1 else struct.pack('<HHII', tag, 3, channels, behind + at)
    )
    entries = (
        long(256, width), long(257, height), each(258, bits, 0), short(259, 1), short(262, interpretation),
        long(273, 8), short(ORIENTATION, orientation), short(277, channels), long(278, height), long(279, len(raw)),
        each(339, kind, 2 * channels),
    )  # fmt: skip
    more = struct.pack(f'<{2 * channels}H', *[bits] * channels, *[kind] * channels) if channels > 1 else b''
    begin = b'II*\0' + struct.pack('<I', 8 + len(raw)) + raw
    return begin + struct.pack('<H', 11) + b''.join(entries) + bytes(4) + more


def deep(container: Callable[[np.ndarray, int], bytes], bits: int, grey: bool) -> Callable[[np.ndarray, int], bytes]:
    """Pictures of 16 bits of which the lower ``bits`` are used."""

    def encode(colours: np.ndarray, orientation: int) -> bytes:
        values = np.rint(colours.astype(np.float64) / 255 * (2**bits - 1)).astype(np.uint16)
        return container(values[..., 0] if grey else values, orientation)

    return encode


def inverted(dtype: str) -> Callable[[np.ndarray, int], bytes]:
    """TIFFs of scanners and microscopes, in which 0 is white."""
    factor = np.iinfo(dtype).max // 255
    return lambda colours, orientation: tiff((255 - colours[..., 0]).astype(dtype) * factor, orientation, 0)


def cmyk16(colours: np.ndarray, orientation: int) -> bytes:
    inks = np.asarray(Image.fromarray(colours).convert('CMYK'))
    return tiff(inks.astype(np.uint16) * 257, orientation, 5)


def by_opencv(suffix: str, top: int) -> Callable[[np.ndarray, int], bytes]:
    """Pictures in which ``top`` is the largest value, in 16 bits if it is above 255."""

    def encode(colours: np.ndarray, orientation: int) -> bytes:
        values = (colours[..., ::-1] / 255 * top).astype(np.uint16 if top > 255 else np.uint8)
        return cv2.imencode(suffix, values)[1].tobytes()

    return encode


def ppm(bits: int, declared: int) -> Callable[[np.ndarray, int], bytes]:
    def encode(colours: np.ndarray, orientation: int) -> bytes:
        values = (colours / 255 * (2**bits - 1)).astype('>u2')
        height, width = values.shape[:2]
        return f'P6 {width} {height} {declared}\n'.encode() + values.tobytes()

    return encode


def sgi(bits: int) -> Callable[[np.ndarray, int], bytes]:
    def encode(colours: np.ndarray, orientation: int) -> bytes:
        values = (colours[::-1] / 255 * (2**bits - 1)).astype('>u2').transpose(2, 0, 1)
        header = struct.pack('>HBBHHHH', 474, 0, 2, 3, *values.shape[:0:-1], len(values))
        return header.ljust(512, b'\0') + values.tobytes()

    return encode


def floats(top: float, dtype: str, grey: bool) -> Callable[[np.ndarray, int], bytes]:
    def encode(colours: np.ndarray, orientation: int) -> bytes:
        values = (colours / 255 * top).astype(dtype)
        return tiff(values[..., 0] if grey else values, orientation)

    return encode


def npy(top: float, dtype: str) -> Callable[[np.ndarray, int], bytes]:
    def encode(colours: np.ndarray, orientation: int) -> bytes:
        stream = io.BytesIO()
        np.save(stream, (colours / 255 * top).astype(dtype))
        return stream.getvalue()

    return encode


KINDS = {
    'jpeg': Kind('.jpg', by_pillow('JPEG', quality=97, subsampling=0), 1.5),
    'jpeg, progressive': Kind('.jpg', by_pillow('JPEG', quality=97, subsampling=0, progressive=True), 1.5),
    'jpeg, grey': Kind('.jpg', by_pillow('JPEG', 'L', quality=97), 1.5, grey=True),
    'jpeg, CMYK': Kind('.jpg', by_pillow('JPEG', 'CMYK', quality=97, subsampling=0), 3.0),
    'png': Kind('.png', by_pillow('PNG')),
    'png, alpha': Kind('.png', by_pillow('PNG', 'RGBA')),
    'png, grey': Kind('.png', by_pillow('PNG', 'L'), grey=True),
    'png, palette': Kind('.png', by_pillow('PNG', 'P'), 8.0),
    'png, 1 bit': Kind('.png', by_pillow('PNG', '1'), 80.0, grey=True),
    'webp': Kind('.webp', by_pillow('WEBP', quality=95, lossless=True)),
    'webp, lossy with alpha': Kind('.webp', by_pillow('WEBP', 'RGBA', quality=95), 8.0),
    'bmp': Kind('.bmp', lambda colours, orientation: by_pillow('BMP')(colours, 1)),
    'tiff': Kind('.tif', by_pillow('TIFF')),
    'tiff, compressed': Kind('.tif', by_pillow('TIFF', compression='tiff_lzw')),
    'tiff, CMYK': Kind('.tif', by_pillow('TIFF', 'CMYK')),
    'tiff, palette': Kind('.tif', by_pillow('TIFF', 'P'), 8.0),
    'tiff, 1 bit': Kind('.tif', by_pillow('TIFF', '1'), 80.0, grey=True),
    'tiff, bare': Kind('.tif', tiff),
    **{
        f'{name}, {bits} of 16 bits{", grey" * grey}': Kind(
            suffix, deep(container, bits, grey), 0.01 if bits == 16 else None, grey
        )
        for name, suffix, container in (('png', '.png', png), ('tiff', '.tif', tiff))
        for bits in (8, 10, 12, 14, 16)
        for grey in (False, True)
    },
    **{
        f'tiff, {dtype} up to {top}{", grey" * grey}': Kind('.tif', floats(top, dtype, grey), None, grey)
        for dtype, top in (
            ('float32', 1.0), ('float32', 255.0), ('float64', 1.0), ('int16', 4095), ('uint32', 255), ('int32', 65535)
        )
        for grey in (False, True)
    },
    **{f'tiff, 0 is white, {dtype}': Kind('.tif', inverted(dtype), 0.0, grey=True) for dtype in ('uint8', 'uint16')},
    'tiff, CMYK of 16 bits': Kind('.tif', cmyk16, None),
    # The content decides how a file is read, its name only whether it is found.
    'ppm': Kind('.bmp', by_opencv('.ppm', 255)),
    'sgi': Kind('.bmp', lambda colours, orientation: by_pillow('SGI')(colours, 1)),
    **{f'ppm, {bits} of 16 bits': Kind('.bmp', ppm(bits, 65535), None) for bits in (8, 12, 16)},
    'ppm, 10 bits': Kind('.bmp', ppm(10, 1023), None),
    **{f'sgi, {bits} of 16 bits': Kind('.bmp', sgi(bits), None) for bits in (8, 12, 16)},
    'npy, uint8': Kind('.npy', npy(255, 'uint8'), None),
    'npy, float32': Kind('.npy', npy(1, 'float32'), None),
}  # fmt: skip


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What a viewer shows of stored pixels, by the definition of the EXIF standard (where row 0 and column 0 are)."""
    return {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1, :],
        5: stored.swapaxes(0, 1),
        6: stored[::-1, :].swapaxes(0, 1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: stored[:, ::-1].swapaxes(0, 1),
    }[orientation]
