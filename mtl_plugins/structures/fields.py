"""Reading targets and predictions of one sample, and which of its pixels count."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mtl_plugins.errors import UserError
from mtl_plugins.task_specs import IGNORE_INDEX, TaskSpec

LABEL_RANGE = 'label_range'
"""Meta information of a sample: ``{task: (lowest, highest label)}`` of the pixels that have a class."""


def as_array(value: Any) -> np.ndarray:
    """Return a dense field as an array ``(C, H, W)``.

    Args:
        value: A tensor or array ``(H, W)`` or ``(C, H, W)``, a ``PixelData``, or the dict that ``PixelData.to_dict``
            makes of one. Tensors may sit on any device; half precision becomes float32.

    Raises:
        ValueError: If the field has neither two nor three dimensions.
    """
    if isinstance(value, Mapping):
        value = value['data']
    elif not isinstance(value, (torch.Tensor, np.ndarray)) and hasattr(value, 'data'):
        value = value.data
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.dtype in (torch.float16, torch.bfloat16):
            value = value.float()
        value = value.cpu().numpy()
    array = np.asarray(value)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise UserError(f'a dense field must have the shape (H, W) or (C, H, W), but got {array.shape}')
    return array


def entry(sample: Any, name: str) -> Any:
    """Return what a data sample, its dict or any other object holds under a name, None if it has nothing there."""
    return sample.get(name) if hasattr(sample, 'get') else getattr(sample, name, None)


def read_field(sample: Any, name: str) -> np.ndarray | None:
    """Return field ``name`` of a data sample (or of its dict) as ``(C, H, W)``, None if the sample has none."""
    value = entry(sample, name)
    return None if value is None else as_array(value)


def without_padding(array: np.ndarray, sample: Any) -> np.ndarray:
    """Return the content of a picture or map that was padded, by what ``sample`` says of it.

    Args:
        array: ``(H, W)`` or ``(H, W, C)``.
        sample: Data sample, or its dict. ``img_shape`` is the size of the content and ``pad_offset`` its upper left
            corner; without them, and where the array is no larger than the content, nothing is cut.
    """
    shape = entry(sample, 'img_shape')
    if shape is None:
        return array
    height, width = (int(side) for side in shape[:2])
    top, left = (int(place) for place in entry(sample, 'pad_offset') or (0, 0))
    if top + height > array.shape[0] or left + width > array.shape[1]:
        return array
    return array[top : top + height, left : left + width]


def valid_pixels(spec: TaskSpec, target: np.ndarray) -> np.ndarray:
    """Return the mask ``(H, W)`` of the pixels of ``target (C, H, W)`` that carry a label.

    Not labelled are: 255 for classes and binary maps; depth <= 0; zero normals; NaN or infinity in any channel of the
    others.
    """
    if spec.is_categorical:
        return target[0] != IGNORE_INDEX
    finite = np.isfinite(target).all(axis=0)
    if spec.kind == 'depth':
        return finite & (np.nan_to_num(target[0]) > 0)
    if spec.kind == 'normals':
        return finite & (target != 0).any(axis=0)
    return finite


def sample_name(sample: Any) -> str:
    """What messages call a sample: its image path, else its index, else a question mark."""
    path, index = entry(sample, 'img_path'), entry(sample, 'sample_idx')
    if path is not None:
        return str(path)
    return '<unknown image>' if index is None else f'sample {int(index)}'
