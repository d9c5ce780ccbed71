"""Rotation and zoom about the centre on an unchanged canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from mmcv.transforms.utils import cache_randomness

from mtl_plugins.errors import UserError
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.task_specs import TaskSpec
from mtl_plugins.utils.argument_types import Positive

from .base import Transform
from .fields import check_sizes, iter_targets

INTERPOLATIONS = {'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC}


@TRANSFORMS.register_module()
class MultiTaskRandomAffine(Transform):
    """Rotate and zoom image and targets about the centre; the size stays.

    The augmentation of the multi-task survey by Vandenhende et al. (2021), with the default arguments for
    PASCAL-Context and with ``angle=(0, 0), scales=(1.0, 1.2, 1.5)`` for NYUD-v2. It is what the camera sees after
    rolling by the angle, so normals are turned in the image plane along with it; depth is divided by the scale as in
    :class:`MultiTaskRandomScale`. Targets are taken from the nearest pixel (the released program of the survey mixes
    normals by cubic interpolation, which blends labelled with unlabelled ones).

    Args:
        angle: Lowest and highest angle in degrees, positive counter-clockwise.
        scale: Lowest and highest factor, drawn uniformly. Above 1 zooms in.
        scales: Factors to choose from instead.
        interpolation: How the image is resampled, ``'bicubic'`` or ``'bilinear'``.
        border: What the area outside of the image becomes: ``'ignore'`` gives each target its own "not labelled" value;
            ``'zero'`` is what the released program does: class 0, no edge, black image.
        img_fill: Colour outside of the image with ``border='ignore'``, in the channel order of ``img``.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        angle: tuple[float, float] = (-20.0, 20.0),
        scale: tuple[Positive, Positive] = (0.75, 1.25),
        scales: Sequence[Positive] | None = None,
        interpolation: Literal['bicubic', 'bilinear'] = 'bicubic',
        border: Literal['ignore', 'zero'] = 'ignore',
        img_fill: Sequence[float] = (104, 116, 124),
    ) -> None:
        name = type(self).__name__
        if not -180 <= angle[0] <= angle[1] <= 180:
            raise UserError(f'{name}: angle must be (low, high) degrees within -180..180, but got {angle!r}')
        if scale[0] > scale[1]:
            raise UserError(f'{name}: scale must be (low, high) with 0 < low <= high, but got {scale!r}')
        if scales is not None and not len(scales):
            raise UserError(f'{name}: scales must be a list of factors above 0, but got {scales!r}')
        self.angle = tuple(angle)
        self.scale = tuple(scale)
        self.scales = None if scales is None else tuple(scales)
        self.interpolation = interpolation
        self.border = border
        self.img_fill = tuple(img_fill)

    @cache_randomness
    def draw(self) -> tuple[float, float]:
        """Draw an angle in degrees and a scale from numpy's global generator (see SeededTransforms)."""
        angle = np.random.uniform(*self.angle)  # noqa: NPY002 - the generator all of mmcv draws from
        if self.scales is not None:
            return angle, float(self.scales[np.random.randint(len(self.scales))])  # noqa: NPY002
        return angle, np.random.uniform(*self.scale)  # noqa: NPY002

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn and zoom ``img`` and all targets."""
        check_sizes(results, type(self).__name__)
        angle, scale = self.draw()
        matrix = source_matrix(results['img'].shape[:2], angle, scale)
        height, width = results['img'].shape[:2]
        results['img'] = cv2.warpAffine(
            results['img'],
            matrix,
            (width, height),
            flags=INTERPOLATIONS[self.interpolation] | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=self.img_fill if self.border == 'ignore' else (0, 0, 0),
        )
        index, outside = _nearest_pixels(matrix, (height, width))
        for key, spec in iter_targets(results):
            results[key] = self._target(spec, results[key], index, outside, angle, scale)
        return results

    def _target(
        self, spec: TaskSpec, target: np.ndarray, index: np.ndarray, outside: np.ndarray, angle: float, scale: float
    ) -> np.ndarray:
        moved = target.reshape(-1, *target.shape[2:]).take(index, axis=0).reshape(target.shape)
        moved[outside] = spec.fill if self.border == 'ignore' else 0
        if spec.kind == 'depth':
            moved /= np.float32(scale)
        elif spec.kind == 'normals':
            moved = rotate_normals(moved, angle)
        return moved


def source_matrix(shape: tuple[int, int], angle: float, scale: float) -> np.ndarray:
    """The ``(2, 3)`` map from a new pixel (x, y, 1) to the place in the old image where it comes from.

    Args:
        shape: Height and width.
        angle: Degrees counter-clockwise, as seen by someone who looks at the image.
        scale: Zoom.
    """
    cos, sin = (f(math.radians(angle)) / scale for f in (math.cos, math.sin))
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    # Rows grow downwards, so turning back from a counter-clockwise turn has this sign of the sine.
    return np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])


def rotate_normals(normals: np.ndarray, angle: float) -> np.ndarray:
    """Turn ``(..., 3)`` normals (x right, y up) in the image plane by ``angle`` degrees counter-clockwise."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return normals @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], normals.dtype)


def _nearest_pixels(matrix: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Flat index of the nearest source pixel of each new pixel, and which of them lie outside of the image."""
    height, width = shape
    columns, rows = np.arange(width), np.arange(height)[:, None]
    x, y = (
        np.floor(row[0] * columns + row[1] * rows + row[2] + 0.5).astype(np.int64) for row in matrix
    )  # the centre of a pixel is at its whole coordinates here
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    return np.where(outside, 0, y * width + x).ravel(), outside
