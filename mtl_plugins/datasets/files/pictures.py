"""Any picture file as 8-bit colours, upright: the one way in which training, inference, checks and photographs read.

What cannot be told from the file is refused instead of guessed: the range of the values of floating-point pictures, and
of 16-bit pictures that use the lower bits alone, as cameras of 10, 12 or 14 bits write them.
"""

import contextlib
import io
import os
from typing import NamedTuple

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import (
    BmpImagePlugin,
    ExifTags,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from mtl_plugins.errors import UserError

from .jpeg import jpeg_header
from .png import DamagedFileError, png_header
from .source import JPEG, PNG, UNREADABLE, WRONG_FORMAT, PictureError, kind_of

LIMIT_ENV = 'MTL_PLUGINS_MAX_PIXELS'
"""Environment variable with the number of pixels above which a picture is refused."""
DEFAULT_LIMIT = 178_956_970
"""Above this Pillow, too, takes a picture for a decompression bomb."""
LEAST_OF_16_BITS = 1 << 14
"""A picture of 16 bits whose largest value is below this has another range, or is so dark that it may have."""
SWAPPING = (5, 6, 7, 8)
"""The EXIF orientations that swap height and width."""

# The classes themselves, since Image.open has a limit of pixels of its own, which only a global variable changes.
_PLUGINS = (
    (PNG, PngImagePlugin.PngImageFile),
    (JPEG, JpegImagePlugin.JpegImageFile),
    (b'BM', BmpImagePlugin.BmpImageFile),
    (b'RIFF', WebPImagePlugin.WebPImageFile),
    (b'II*\x00', TiffImagePlugin.TiffImageFile),
    (b'MM\x00*', TiffImagePlugin.TiffImageFile),
)
_SAID: set[str] = set()
"""What this process has warned of."""
_EIGHT_BITS = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr')
_TIFF_BITS, _TIFF_FORMAT, _TIFF_COLOURS, _UNSIGNED = 258, 339, 262, 1
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_TURNS = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image.swapaxes(0, 1), 2),
    8: lambda image: np.rot90(image),
}


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        bgr: ``(H, W, 3)`` uint8, upright.
        orientation: The EXIF orientation by which it was turned, 1 for none.
    """

    bgr: np.ndarray
    orientation: int


def decode_picture(data: bytes, path: str | os.PathLike = '') -> Picture:
    """Decode the content of a picture file.

    Grey, palette, CMYK and 1-bit pictures become colours, an alpha channel is dropped, 16 bits are divided by 257, and
    the picture is turned upright as its EXIF orientation says. Of several pictures in a file (pages, frames of an
    animation) the first is taken, with a warning.

    Args:
        data: The content.
        path: The file, for the warning.

    Raises:
        PictureError: If it is damaged, truncated or altered, too large, or has values whose range is not known.
    """
    if data.startswith(PNG):
        header = png_header(data)
        check_pixels(header.size)
        _say_first(path, header.frames)
        orientation = orientation_of(data) if header.has_metadata else 1
        return Picture(_turned(_eight_bits(_decoded(data, deep=header.bits == 16)), orientation), orientation)
    if data.startswith(JPEG):
        header = jpeg_header(data)
        check_pixels(header.size)
        orientation = orientation_of(data) if header.has_metadata else 1
        return Picture(_turned(_decoded(data), orientation), orientation)
    return _decode_other(data, path)


def upright_size(data: bytes) -> tuple[int, int]:
    """(height, width) that :func:`decode_picture` would give, from the header; raises as that does."""
    if data.startswith((PNG, JPEG)):
        header = (png_header if data.startswith(PNG) else jpeg_header)(data)
        swapped = header.has_metadata and orientation_of(data) in SWAPPING
        return header.size[::-1] if swapped else header.size
    with open_picture(data) as image:
        turned = not isinstance(image, TiffImagePlugin.TiffImageFile) and _orientation(image) in SWAPPING
        return image.size if turned else image.size[::-1]


def orientation_of(data: bytes) -> int:
    """The EXIF orientation (1..8) in the content of a picture file; 1 if there is none, or none that makes sense."""
    with open_picture(data) as image:
        return _orientation(image)


def open_picture(data: bytes) -> Image.Image:
    """Open with Pillow without decoding.

    Raises:
        PictureError: If it is no picture, or too large.
    """
    stream = io.BytesIO(data)
    try:
        plugin = next((plugin for begin, plugin in _PLUGINS if data.startswith(begin)), None)
        image = Image.open(stream) if plugin is None else plugin(stream)
    except Exception as error:  # damaged input makes these decoders raise nearly anything
        found, kind = kind_of(data), UNREADABLE
        if any(data.startswith(begin) for begin, _ in _PLUGINS):
            found += f' that cannot be opened, damaged or of an unusual form ({error}; if other programs open it, '
            found += f'{_CONVERT})'
            kind = WRONG_FORMAT
        raise PictureError(found, kind) from error
    check_pixels(image.size[::-1])
    return image


def check_pixels(size: tuple[int, int]) -> None:
    """Refuse pictures so large that decoding them may take all memory.

    Raises:
        PictureError: If (height, width) is above the limit.
        UserError: If the environment variable is no number.
    """
    if size[0] * size[1] > (limit := pixel_limit()):
        raise PictureError(
            f'{size[0]} x {size[1]} pixels, more than {limit} (if it is no decompression bomb, set the environment '
            f'variable {LIMIT_ENV}={size[0] * size[1]})'
        )


def pixel_limit() -> int:
    """The number of pixels above which a picture is refused."""
    text = os.environ.get(LIMIT_ENV) or str(DEFAULT_LIMIT)
    if not text.isdecimal() or int(text) < 1:
        raise UserError(
            f'the environment variable {LIMIT_ENV} must be a number of pixels of 1 or more, but is {text!r}; unset it '
            f'for the default of {DEFAULT_LIMIT}'
        )
    return int(text)


def to_rgb(image: Image.Image) -> Image.Image:
    """An 8-bit picture of Pillow's in RGB; transparency is dropped.

    Raises:
        PictureError: If its values have another range.
    """
    if image.mode not in _EIGHT_BITS:
        raise PictureError(f'a picture of mode {image.mode}, {_UNKNOWN_RANGE}')
    if 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')


_CONVERT = 'convert it to 8 bits per channel'
_UNKNOWN_RANGE = f'whose range of values is not known; {_CONVERT}'


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether Pillow would drop lower bits, and be it all that is used, of a picture that is no PNG, JPEG or TIFF."""
    if image.format == 'PPM':
        arguments = image.tile[0].args
        return isinstance(arguments, tuple) and arguments[-1] > 255
    if image.format == 'JPEG2000':
        start = data.find(b'\xff\x4f\xff\x51') + 40  # behind the markers SOC and SIZ: the number of channels
        channels = int.from_bytes(data[start : start + 2], 'big')
        return any(depth & 0x7F > 7 for depth in data[start + 2 : start + 2 + 3 * channels : 3])
    return image.format == 'SGI' and data[3] == 2


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata do not damage the picture
        return 1
    return found if found in _TURNS else 1


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    return np.ascontiguousarray(_TURNS[orientation](image)) if orientation != 1 else image


def _decoded(data: bytes, deep: bool = False) -> np.ndarray:
    flags = cv2.IMREAD_UNCHANGED if deep else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    # What OpenCV has to say of damaged files is said by the error that is raised.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise PictureError(f'{kind_of(data)} that cannot be decoded ({error})') from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise DamagedFileError(f'{kind_of(data)} that cannot be decoded (damaged or truncated)')
    return image


def _eight_bits(image: np.ndarray) -> np.ndarray:
    """An ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` array of OpenCV's as ``(H, W, 3)`` uint8."""
    if image.dtype == np.uint8:
        return image
    colours = image if image.ndim == 2 else image[..., :3]
    top = int(colours.max())
    if image.dtype != np.uint16 or 0 < top < LEAST_OF_16_BITS:
        raise PictureError(f'a picture of type {image.dtype} with values up to {top}, {_UNKNOWN_RANGE}')
    eight = ((colours.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(eight[..., None], 3, axis=2) if eight.ndim == 2 else eight


def say_once(what: str, text: str) -> None:
    """Warn, once per process: files of one folder are alike."""
    if what not in _SAID:
        _SAID.add(what)
        print_log(text, logger='current', level=30)


def _say_first(path: str | os.PathLike, frames: int) -> None:
    if frames > 1:
        say_once(
            'frames',
            f'{os.fspath(path) or "a picture"} holds {frames} pictures, of which the first is taken, and so of others '
            'like it. Store the pictures in files of their own to use them all',
        )


def _decode_other(data: bytes, path: str | os.PathLike) -> Picture:
    with open_picture(data) as image:
        orientation = _orientation(image)
        with contextlib.suppress(Exception):  # damage is found where the picture is decoded
            _say_first(path, getattr(image, 'n_frames', 1))
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            bits, formats = (set(image.tag_v2.get(tag, (1,))) for tag in (_TIFF_BITS, _TIFF_FORMAT))
            colours = image.tag_v2.get(_TIFF_COLOURS)
            if bits == {16} and formats == {_UNSIGNED} and colours in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
                # Pillow has no 16-bit colours. OpenCV turns a TIFF, and no other format, as it decodes it.
                values = _decoded(data, deep=True)
                return Picture(_eight_bits(~values if colours == _WHITE_IS_ZERO else values), orientation)
            if max(bits) > 8 or formats != {_UNSIGNED}:
                raise PictureError(
                    f'a TIFF of {max(bits)} bits in sample format {max(formats)} and photometric interpretation '
                    f'{colours}, {_UNKNOWN_RANGE}'
                )
        elif _is_deep(image, data):
            raise PictureError(f'a {image.format} of more than 8 bits per channel; {_CONVERT}, or to a PNG of 16 bits')
        try:
            rgb = np.asarray(to_rgb(ImageOps.exif_transpose(image)))
        except PictureError:
            raise
        except Exception as error:  # see open_picture
            raise DamagedFileError(f'a damaged or truncated file ({type(error).__name__}: {error})') from error
    return Picture(np.ascontiguousarray(rgb[..., ::-1]), orientation)
