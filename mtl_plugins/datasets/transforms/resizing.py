"""Resizing to a fixed size, and the two ways in which targets are resized: by nearest neighbour and bilinearly."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.structures.fields import valid_pixels
from mtl_plugins.task_specs import TaskSpec

from .base import Transform
from .fields import as_size, check_sizes, iter_targets

SMALLEST_WEIGHT = 1e-6
LONGEST = 2**15
"""On longer axes the steps of 1/65536 pixel in which OpenCV counts would overflow."""
SHORTEST_NORMAL = 1e-3
"""Mixtures of unit vectors that are shorter than this have no direction to speak of."""


@lru_cache(maxsize=256)
def nearest_indices(old: int, new: int) -> np.ndarray:
    """For each of ``new`` pixels along an axis, the one of ``old`` pixels that its centre falls on."""
    indices = np.minimum((np.arange(new) * 2 + 1) * old // (2 * new), old - 1)
    indices.flags.writeable = False
    return indices


@lru_cache(maxsize=256)
def _opencv_errors(old: int, new: int) -> np.ndarray:
    """The new pixels along an axis for which OpenCV's "exact" mode takes another pixel.

    It steps in 1/65536 of a pixel, and for every third pair of lengths that is too coarse somewhere.
    """
    line = cv2.resize(np.arange(old, dtype=np.float32)[None], (new, 1), interpolation=cv2.INTER_NEAREST_EXACT)
    errors = np.flatnonzero(line[0] != nearest_indices(old, new))
    errors.flags.writeable = False
    return errors


def resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize ``(H, W, ...)`` by nearest neighbour with aligned pixel centres.

    OpenCV's plain nearest mode aligns the upper left corners instead, which shifts labels by up to half a pixel
    against the bilinear image.

    Args:
        array: Any data type, any number of trailing axes.
        size: New ``(height, width)``.
    """
    if array.shape[:2] == tuple(size):
        return array
    rows, columns = (nearest_indices(old, new) for old, new in zip(array.shape, size))
    if array.dtype not in (np.uint8, np.float32) or array.ndim > 3 or max(array.shape[:2]) > LONGEST:
        return array.take(columns, axis=1).take(rows, axis=0)
    resized = cv2.resize(array, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    resized = resized.reshape(tuple(size) + array.shape[2:])
    wrong_rows, wrong_columns = (_opencv_errors(old, new) for old, new in zip(array.shape, size))
    if wrong_columns.size:
        resized[:, wrong_columns] = array.take(columns[wrong_columns], axis=1).take(rows, axis=0)
    if wrong_rows.size:
        resized[wrong_rows] = array.take(rows[wrong_rows], axis=0).take(columns, axis=1)
    return resized


def resize_linear(array: np.ndarray, size: tuple[int, int], antialias: bool = True) -> np.ndarray:
    """Resize an ``(H, W)`` or ``(H, W, C)`` array bilinearly with aligned pixel centres.

    Args:
        array: ``uint8`` or ``float32``, which is kept.
        size: New ``(height, width)``.
        antialias: Widen the triangle of weights to the distance of the new pixels where the array shrinks, as Pillow
            does; False takes the four nearest pixels whatever the factor, as OpenCV does.
    """
    height, width = size
    if not antialias:
        return cv2.resize(array, (width, height), interpolation=cv2.INTER_LINEAR).reshape((*size, *array.shape[2:]))
    if array.ndim == 2 or array.dtype == np.uint8:
        return np.asarray(Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR))
    return np.stack([resize_linear(channel, size) for channel in np.moveaxis(array, -1, 0)], axis=-1)


def resize_valid(spec: TaskSpec, target: np.ndarray, size: tuple[int, int], antialias: bool = True) -> np.ndarray:
    """Resize a float target bilinearly without mixing labelled with unlabelled pixels.

    A new pixel is labelled only if every pixel that it is mixed from is. Mixed normals are brought back to length 1;
    where they cancel out there is no label.

    Args:
        spec: Its task, of a kind other than ``'classes'`` and ``'binary'``.
        target: ``(H, W)`` or ``(H, W, C)`` float32.
        size: New ``(height, width)``.
        antialias: See :func:`resize_linear`.
    """
    if target.shape[:2] == tuple(size):
        return target
    invalid = ~labelled(spec, target)
    if not invalid.any():
        resized = resize_linear(target, size, antialias)
    else:
        known = np.where(invalid if target.ndim == 2 else invalid[..., None], np.float32(0), target)
        resized = resize_linear(known, size, antialias)
        # Weights are never negative: what is left of the mask is above 0 wherever an invalid pixel has a share. Below
        # the limit it is rounding, of weights that are 0 by definition.
        resized = np.array(resized)
        resized[resize_linear(invalid.astype(np.float32), size, antialias) > SMALLEST_WEIGHT] = spec.fill
    if spec.kind == 'normals':
        length = np.linalg.norm(resized, axis=-1, keepdims=True)
        resized = np.where(length > SHORTEST_NORMAL, resized / np.maximum(length, SHORTEST_NORMAL), np.float32(0))
    return resized


def labelled(spec: TaskSpec, target: np.ndarray) -> np.ndarray:
    """Which pixels of a target ``(H, W)`` or ``(H, W, C)`` carry a label."""
    return valid_pixels(spec, target[None] if target.ndim == 2 else target.transpose(2, 0, 1))


def has_labels(spec: TaskSpec, target: np.ndarray) -> bool:
    """Whether any pixel of a target of any kind carries a label."""
    return bool(labelled(spec, target).any())


@TRANSFORMS.register_module()
class MultiTaskResize(Transform):
    """Resize image and targets to one size, as Taskonomy's are to 256 x 256.

    The image is resized bilinearly. Values stay as they are (depth is not divided by anything: the scene is not seen
    from elsewhere, the picture only gets other pixels).

    Args:
        size: New height and width, or one number for a square.
        targets: ``'nearest'`` takes each target's nearest pixel. ``'bilinear'`` mixes targets that are not class or
            binary maps, as the released program for Taskonomy does, but none with a pixel that has no label: such
            mixtures have no label either; mixed normals are brought back to length 1. Class and binary maps are resized
            by nearest neighbour in either case.
        antialias: Whether shrinking mixes all pixels that the new one covers, as Pillow and thereby the released
            program does, or the four around its centre, as OpenCV does. Concerns whatever is resized bilinearly.

    Raises:
        ValueError: If ``size`` or ``targets`` is none of the above.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        targets: Literal['nearest', 'bilinear'] = 'nearest',
        antialias: bool = True,
    ) -> None:
        self.size = as_size(size, 'MultiTaskResize: size')
        self.targets = targets
        self.antialias = antialias

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``img`` and all targets; sets ``img_shape`` and ``scale_factor`` (width, height)."""
        check_sizes(results, type(self).__name__, resized=True)
        height, width = results['img'].shape[:2]
        if (height, width) != self.size:
            results['img'] = resize_linear(results['img'], self.size, self.antialias)
        for key, spec in iter_targets(results):
            if self.targets == 'nearest' or spec.is_categorical:
                results[key] = resize_nearest(results[key], self.size)
            else:
                results[key] = resize_valid(spec, results[key], self.size, self.antialias)
        results['img_shape'] = self.size
        results['scale_factor'] = (self.size[1] / width, self.size[0] / height)
        return results
