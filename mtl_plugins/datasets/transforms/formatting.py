"""From arrays to the tensors and the data sample that the model takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mtl_plugins.errors import UserError
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.structures.fields import LABEL_RANGE
from mtl_plugins.task_specs import IGNORE_INDEX

from .base import Transform
from .fields import iter_targets, sample_name

META_KEYS = (
    'img_path', 'sample_idx', 'ori_shape', 'img_shape', 'pad_shape', 'pad_offset', 'scale_factor', 'flip',
    'flip_direction',
)  # fmt: skip


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    """``(H, W)`` or ``(H, W, C)`` array to a ``(C, H, W)`` tensor that owns contiguous memory."""
    channels_first = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    # A copy even where it is contiguous already: the array may be a read-only view into a cache.
    return torch.from_numpy(np.array(channels_first, order='C'))


@TRANSFORMS.register_module()
class PackMultiTaskInputs(Transform):
    """Pack a sample as ``dict(inputs=Tensor, data_samples=SegDataSample)``.

    ``inputs`` is the ``(3, H, W)`` image in its own type and channel order. The data sample gets one ``PixelData`` per
    target with ``data`` of shape ``(C, H, W)``: ``uint8`` for classes and binary maps, ``float32`` otherwise. Its meta
    information notes the lowest and highest label of each task of classes, so that training need not look again.

    Args:
        meta_keys: Entries of the sample that are kept as meta information where present.

    Raises:
        UserError: When applied to a map of classes or a binary map whose values are no whole numbers of 0 to 255.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack one sample."""
        sample = SegDataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        ranges = {}
        for key, spec in iter_targets(results):
            with np.errstate(invalid='ignore'):  # NaN as a label is refused below
                target = results[key].astype(np.uint8 if spec.is_categorical else np.float32, copy=False)
            if spec.is_categorical:
                changed = results[key][target != results[key]] if target is not results[key] else target[:0]
                if changed.size:
                    raise UserError(
                        f'{sample_name(results)}: labels of task {spec.key} must be whole numbers, 0 to 254 or '
                        f'{IGNORE_INDEX} (not labelled), but {changed.size} pixels have others, such as {changed[0]}; '
                        'mend what loads them'
                    )
                labels = target[target != IGNORE_INDEX]
                ranges[spec.key] = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
            sample.set_data({key: PixelData(data=_to_tensor(target))})
        sample.set_metainfo({LABEL_RANGE: ranges})
        return dict(inputs=_to_tensor(results['img']), data_samples=sample)
