"""What the numbers in Taskonomy's PNG files mean: from stored codes to targets, and back for the exporter.

The targets are those of the published multi-task tables: every map is regressed, mostly on -1..1.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..files import (
    GENUINE_AXES,
    NormalAxes,
    UnreadableFileError,
    normals_from_bytes,
    normals_to_bytes,
    read_colours,
    read_indices,
    read_png16,
)

NO_DATA = 65535
"""Code of a depth that is not known."""
NO_NORMAL = 128
"""Code, in all channels, of a normal that is not known."""
NO_CURVATURE = 0
"""Code, in both channels, of a curvature that is not known (127 is flat)."""
NORMAL_AXES = GENUINE_AXES['taskonomy']
"""What the channels of stored normals hold, measured on genuine files: x right, y down, z away from the viewer."""
UNITS_PER_METRE = 512
DILATION = 5
"""Pixels this near to one that is not valid (a square of this side) do not count either."""
BLUR_SIGMA, BLUR_HEIGHT = 4.0, 256
"""Occlusion edges are blurred by this many pixels of an image of this height."""
CURVATURE_MEAN, CURVATURE_STD = (123.572, 120.1), (31.922, 21.658)

PICTURE_TASKS = ('edge_texture', 'keypoints2d', 'segment_unsup2d')
"""Tasks computed from the picture alone: they are valid where the geometry has holes, too."""

_LOG_CODES = np.log(2.0**16)
_CURVATURES = [((np.arange(256) - m) / s).astype(np.float32) for m, s in zip(CURVATURE_MEAN, CURVATURE_STD)]
_FULL = {
    'edge_occlusion': 0.00625 * 2**16,
    'edge_texture': 0.08 * 2**16,
    'keypoints2d': 0.005 * 2**16,
    'keypoints3d': 1.0 * 2**16,
}


@dataclass(frozen=True)
class Coding:
    """How a task is stored.

    Attributes:
        bits: Bits per channel of the file, 8 or 16.
        stored_channels: Channels that the file has, as far as the released program tells.
        channels: Channels of the target.
        to_target: Codes as in the file, ``(H, W)`` or ``(H, W, C)`` -> target, float32.
        to_codes: The inverse, before rounding.
        value_range: What figures map to their colours; None if that is a matter of the data.
    """

    bits: int
    stored_channels: int
    channels: int
    to_target: Callable[[np.ndarray], np.ndarray]
    to_codes: Callable[[np.ndarray], np.ndarray]
    value_range: tuple[float, float] | None = None


def _log_depth() -> Coding:
    return Coding(
        16, 1, 1,
        lambda codes: _log_table()[codes],
        lambda target: np.expm1(np.float64(target) * _LOG_CODES),
    )  # fmt: skip


@functools.cache
def _log_table() -> np.ndarray:
    """``log(1 + x) / log(65536)`` of every 16-bit code, float32; 65535 + 1 would be 0 in the 16 bits of the file."""
    table = (np.log1p(np.arange(2.0**16)) / _LOG_CODES).astype(np.float32)
    table.flags.writeable = False
    return table


def _signed(
    bits: int, channels: int, full: float, clip: bool = True, value_range: tuple[float, float] | None = (-1.0, 1.0)
) -> Coding:
    """0 -> -1, ``full`` -> 1, linear between."""

    def to_target(codes: np.ndarray) -> np.ndarray:
        # In float32 before any arithmetic: 2 x would wrap around in the 8 or 16 bits of the file.
        target = codes.astype(np.float32)
        if clip and full < 2**bits - 1:
            np.minimum(target, np.float32(full), out=target)
        target *= np.float32(2 / full)
        target -= 1
        return target

    return Coding(bits, channels, channels, to_target, lambda target: (np.float64(target) + 1) / 2 * full, value_range)


CODINGS: dict[str, Coding] = {
    'depth_euclidean': _log_depth(),
    'depth_zbuffer': _log_depth(),
    'edge_occlusion': _signed(16, 1, _FULL['edge_occlusion'], clip=False),
    'edge_texture': _signed(16, 1, _FULL['edge_texture']),
    'keypoints2d': _signed(16, 1, _FULL['keypoints2d']),
    'keypoints3d': _signed(16, 1, _FULL['keypoints3d']),
    'normal': _signed(8, 3, 255, value_range=None),
    'principal_curvature': Coding(
        8, 3, 2,
        lambda codes: np.stack([table[codes[..., c]] for c, table in enumerate(_CURVATURES)], axis=-1),
        lambda target: np.float64(target) * CURVATURE_STD + CURVATURE_MEAN,
    ),
    'reshading': _signed(8, 3, 255),
    'segment_unsup2d': _signed(8, 1, 255),
    'segment_unsup25d': _signed(8, 1, 255),
}  # fmt: skip
"""Task -> how it is stored."""


def read_codes(task: str, path: str) -> np.ndarray:
    """The codes in a task's file: ``(H, W)`` uint16 for 16-bit tasks, else ``(H, W)`` or ``(H, W, 3)`` uint8 (RGB).

    A grey file of ``reshading`` is repeated, of a colour file of a task of one channel the first channel is taken, and
    an alpha channel is dropped, since the papers leave open how these were stored.

    Raises:
        UnreadableFileError: If the file is missing, damaged, or has another number of bits.
    """
    coding = CODINGS[task]
    if coding.bits == 16:
        return read_png16(path)
    colours = functools.partial(read_colours, alpha=True)
    if task in ('normal', 'principal_curvature'):  # whose channels differ in what they mean
        return colours(path)
    readers: Sequence[Callable[[str], np.ndarray]] = (read_indices, colours)
    readers = readers if coding.stored_channels == 1 else readers[::-1]
    try:
        return readers[0](path)
    except UnreadableFileError as first:
        try:
            codes = readers[1](path)
        except UnreadableFileError:
            raise first from None
    return codes[..., 0] if codes.ndim == 3 else np.repeat(codes[..., None], 3, axis=2)


def decode(task: str, codes: np.ndarray, valid: np.ndarray | None = None, axes: NormalAxes | None = None) -> np.ndarray:
    """Turn stored codes into a target.

    * ``depth_euclidean``, ``depth_zbuffer``: ``log(1 + x) / log(65536)``, in 0..1 (x in 1/512 m; 65535 gives 1).
    * ``edge_occlusion``: ``2 x / 409.6 - 1``, not clipped, then blurred by a Gaussian of 4 pixels at 256 x 256, which
      is 8 at 512 x 512.
    * ``edge_texture``, ``keypoints2d``, ``keypoints3d``: ``2 x / f - 1`` with f = 5242.88, 327.68 and 65536; x is
      clipped to f.
    * ``normal``: ``2 x / 255 - 1``, turned to our axes. With ``valid`` they become unit vectors, without they stay as
      they are quantised.
    * ``principal_curvature``: ``(x - (123.572, 120.1)) / (31.922, 21.658)``, first two channels.
    * ``reshading``, ``segment_unsup2d``, ``segment_unsup25d``: ``2 x / 255 - 1``.

    Args:
        task: One of :data:`~.layout.TASKS`.
        codes: As :func:`read_codes` returns them, or resized (of the same data type).
        valid: ``(H, W)`` bool, the pixels that carry a label. None: all do, as in the released program.
        axes: Those of the stored normals, by default :data:`NORMAL_AXES`.

    Returns:
        ``(H, W)`` or ``(H, W, C)`` float32. Not labelled: NaN, for ``normal`` the zero vector.
    """
    as_units = task == 'normal' and valid is not None
    target = normals_from_bytes(codes) if as_units else CODINGS[task].to_target(codes)
    if task == 'normal':
        target = (axes or NormalAxes(NORMAL_AXES)).to_ours(target)
    if task == 'edge_occlusion':
        target = _blur(target, valid)
    if valid is not None:
        target[~valid] = 0 if task == 'normal' else np.nan
    return target


def encode(task: str, target: np.ndarray) -> np.ndarray:
    """The inverse of :func:`decode` up to rounding (and without the blur), for the exporter.

    Args:
        task: One of :data:`~.layout.TASKS`.
        target: ``(H, W)`` or ``(H, W, C)``; what is not labelled becomes the "no data" code of depth, normals and
            curvature, and 0 elsewhere.

    Returns:
        uint8 or uint16 codes with the channels that the file has.
    """
    coding = CODINGS[task]
    if task == 'normal':
        codes = normals_to_bytes(NormalAxes(NORMAL_AXES).from_ours(target))
        codes[~target.any(axis=-1)] = NO_NORMAL
        return codes
    unknown = np.isnan(target)
    limit = 2**coding.bits - 1
    known = np.rint(coding.to_codes(np.where(unknown, 0, target)))
    # The largest depth code means "no data", and curvature 0, so that what is known keeps away from them.
    low, high = (1, limit) if task == 'principal_curvature' else (0, limit - 1 if 'depth' in task else limit)
    codes = np.clip(known, low, high).astype(np.uint16 if coding.bits == 16 else np.uint8)
    codes[unknown] = NO_DATA if 'depth' in task else 0
    if task == 'principal_curvature':
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    return codes


def own_holes(task: str, codes: np.ndarray) -> np.ndarray | None:
    """Pixels ``(H, W)`` that the codes of a task themselves mark as not known; None if the task has no such code."""
    if 'depth' in task:
        return codes == NO_DATA
    if task == 'normal':
        return cv2.inRange(codes, (NO_NORMAL,) * 3, (NO_NORMAL,) * 3) > 0
    if task == 'principal_curvature':  # whatever the third channel holds
        return cv2.inRange(codes, (NO_CURVATURE,) * 3, (NO_CURVATURE, NO_CURVATURE, 255)) > 0
    return None


def dilate(holes: np.ndarray) -> np.ndarray:
    """Widen holes ``(H, W)`` bool by a square of :data:`DILATION` pixels."""
    return cv2.dilate(holes.astype(np.uint8), np.ones((DILATION, DILATION), np.uint8)).astype(bool)


def _blur(target: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Gaussian blur; with a mask only of the valid pixels, each weighted by what the Gaussian leaves of the mask."""
    sigma = BLUR_SIGMA * target.shape[0] / BLUR_HEIGHT
    if valid is None or valid.all():
        return _gaussian(target, sigma)
    weight = _gaussian(valid.astype(np.float32), sigma)
    blurred = _gaussian(np.where(valid, target, np.float32(0)), sigma)
    return np.divide(blurred, weight, out=np.zeros_like(blurred), where=valid)


def _gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """What ``scipy.ndimage.gaussian_filter`` computes with its defaults (cut off at 4 sigma, mirrored), faster."""
    width = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image, (width, width), sigma, borderType=cv2.BORDER_REFLECT)
