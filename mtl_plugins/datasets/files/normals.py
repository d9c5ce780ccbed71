"""Surface normals in 8-bit images."""

import cv2
import numpy as np

SHORTEST = 0.5
"""Vectors shorter than this say nothing about a direction: an 8-bit image cannot hold zero, the nearest are +-1/255."""
_DECODED = np.linspace(-1, 1, 256).astype(np.float32)


def normals_from_bytes(colours: np.ndarray) -> np.ndarray:
    """Decode ``x = 2 v / 255 - 1`` to unit vectors.

    Vectors shorter than :data:`SHORTEST` become the zero vector (not labelled). All others are divided by their
    length, whereas the released programs train on the quantised vectors as they are; both differ by less than 1 %, and
    the metrics normalise anyway.

    Args:
        colours: ``(H, W, 3)`` uint8.

    Returns:
        ``(H, W, 3)`` float32.
    """
    return unit_or_zero(cv2.LUT(np.ascontiguousarray(colours), _DECODED))


def normals_to_bytes(normals: np.ndarray) -> np.ndarray:
    """The inverse of :func:`normals_from_bytes`; zero vectors become mid-grey.

    Args:
        normals: ``(H, W, 3)`` unit or zero vectors.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    return np.rint((np.clip(normals, -1, 1) + 1) * 127.5).astype(np.uint8)


def unit_or_zero(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; zero where they are shorter than :data:`SHORTEST` or not finite.

    Args:
        vectors: ``(H, W, 3)`` floats, not changed.
    """
    # Channel by channel: four times as fast as with the last axis of length 3.
    channels = cv2.split(np.asarray(vectors, np.float32))
    # `where` leaves the zeros out, but the hardware flags that numpy reads may have seen them.
    with np.errstate(invalid='ignore', over='ignore', divide='ignore'):
        length = np.sqrt(channels[0] * channels[0] + channels[1] * channels[1] + channels[2] * channels[2])
        finite = np.isfinite(length)
        factor = np.divide(1, length, out=np.zeros_like(length), where=finite & (length >= SHORTEST))
        for channel in channels:
            channel *= factor
    unit = cv2.merge(channels)
    if not finite.all():
        unit[~finite] = 0  # 0 * NaN is NaN
    return unit
