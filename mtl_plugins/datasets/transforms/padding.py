"""Padding with each task's own "not labelled" value."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_plugins.registry import TRANSFORMS

from .base import Transform
from .fields import as_size, check_sizes, iter_targets


@TRANSFORMS.register_module()
class MultiTaskPad(Transform):
    """Pad image and targets to at least ``size``.

    ``img_shape`` stays the shape of the content; ``pad_shape`` is the padded shape and ``pad_offset`` the (top, left)
    corner of the content in it, which is what the model needs to cut its predictions back.

    Args:
        size: Height and width to reach, or one number for a square. A longer axis is left alone.
        centred: Content in the middle (the odd pixel goes to the bottom or right) instead of the upper left corner.
        img_fill: Colour of the border, in the channel order of ``img``. The default is the ImageNet mean in BGR, which
            the data preprocessor turns into about 0.
        pad_targets: False leaves the targets as they are, for validation and test: predictions are cut back to the
            content before they are compared.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        centred: bool = True,
        img_fill: Sequence[int] = (104, 116, 124),
        pad_targets: bool = True,
    ) -> None:
        self.size = as_size(size, 'MultiTaskPad: size')
        self.centred = centred
        self.img_fill = tuple(img_fill)
        self.pad_targets = pad_targets

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pad ``img`` and, if wanted, all targets; sets ``img_shape``, ``pad_shape`` and ``pad_offset``."""
        if self.pad_targets:
            check_sizes(results, type(self).__name__)
        shape = results['img'].shape[:2]
        padded = tuple(max(have, want) for have, want in zip(shape, self.size))
        offset = tuple((new - old) // 2 if self.centred else 0 for old, new in zip(shape, padded))
        window = tuple(slice(start, start + length) for start, length in zip(offset, shape))
        results.update(img_shape=shape, pad_shape=padded, pad_offset=offset)
        if padded == shape:
            return results
        results['img'] = self._pad(results['img'], self.img_fill, padded, window)
        if self.pad_targets:
            for key, spec in iter_targets(results):
                results[key] = self._pad(results[key], spec.fill, padded, window)
        return results

    @staticmethod
    def _pad(array: np.ndarray, fill: Any, shape: tuple[int, int], window: tuple[slice, slice]) -> np.ndarray:
        padded = np.empty(shape + array.shape[2:], array.dtype)
        padded[...] = fill
        padded[window] = array
        return padded
