"""The first transform of the datasets that live in files."""

from typing import Any

import cv2
import numpy as np

from mtl_plugins.errors import UserError, UserKeyError
from mtl_plugins.registry import TRANSFORMS
from mtl_plugins.task_specs import get_task_spec

from ..transforms.base import Transform
from ..transforms.fields import sample_name, target_key
from ..transforms.geometry import resize_nearest
from .normals import unit_or_zero
from .sizes import check_aspect


@TRANSFORMS.register_module()
class LoadSampleFiles(Transform):
    """Read the image and the targets of one sample from the dataset's files.

    The dataset hands over ``reader`` (a :class:`~mtl_plugins.datasets.files.SampleReader`) and ``files``, the files
    per task; a task without files is left out for this sample. A target of another size than its image, but of the same
    proportions, is resized to it: by nearest neighbour, normals bicubically with their lengths restored.

    Raises:
        KeyError: If the dataset hands over no reader.
        UserError: If the image is not as pipelines take it, a target is no array of numbers, or it has other
            proportions than its image.
        UnreadableFileError: If a file is missing or damaged; the message names it.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``img``, one ``gt_<task>`` per file, ``seg_fields``, ``img_shape`` and ``ori_shape``."""
        if 'reader' not in results or 'files' not in results:
            raise UserKeyError(
                f'LoadSampleFiles: {sample_name(results)} comes without reader and files; this transform works with '
                'datasets of files (mtl_plugins.NYUDv2Dataset, PascalContextMTDataset, TaskonomyDataset). The first '
                'transform of RoomsDataset and PhotosDataset is mtl_plugins.LoadCachedSample'
            )
        # The reader is not passed on: it would travel to the main process with every sample.
        reader = results.pop('reader')
        image = results['img'] = reader.read_image(results)
        if not _is_array(image, 'u', (3,)) or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(
                f'{sample_name(results)}: {type(reader).__name__}.read_image must return BGR of the shape (H, W, 3) '
                f'and the type uint8 (0..255), but returned {_described(image)}'
            )
        size = results['img_shape'] = results['ori_shape'] = image.shape[:2]
        results['seg_fields'] = []
        for task in results['files']:
            target = reader.read_target(task, results)
            if not _is_array(target, 'biuf', (2, 3)):
                raise UserError(
                    f'{sample_name(results)}: {type(reader).__name__}.read_target must return an array of numbers, (H, '
                    f"W) or (H, W, C), for task '{task}', but returned {_described(target)}"
                )
            if target.shape[:2] != size:
                check_aspect(
                    target.shape[:2],
                    size,
                    f"{sample_name(results)}: the target of task '{task}'",
                    results['files'][task],
                    str(results.get('img_path') or ''),
                )
                target = resize_target(target, size, get_task_spec(task).kind)
            results[target_key(task)] = target
            results['seg_fields'].append(target_key(task))
        return results


def _is_array(value: Any, kinds: str, axes: tuple[int, ...]) -> bool:
    """Whether a value is an array of some kinds of data; the mask of a masked array would be lost without a word."""
    plain = isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)
    return plain and value.dtype.kind in kinds and value.ndim in axes


def _described(value: Any) -> str:
    kind = 'a masked array, ' if isinstance(value, np.ma.MaskedArray) else ''
    return f'{kind}{value.dtype} of shape {value.shape}' if isinstance(value, np.ndarray) else f'{type(value).__name__}'


def resize_target(target: np.ndarray, size: tuple[int, int], kind: str) -> np.ndarray:
    """Resize a target to the size of its image.

    Args:
        target: ``(H, W)`` or ``(H, W, C)``.
        size: New ``(height, width)``.
        kind: Kind of the task; ``'normals'`` are resized bicubically and get length 1 again (zero vectors, and those
            that cancel, stay or become zero), all others by nearest neighbour.
    """
    nearest = resize_nearest(target, size)
    if kind != 'normals':
        return nearest
    smooth = unit_or_zero(cv2.resize(target, size[::-1], interpolation=cv2.INTER_CUBIC))
    smooth[~nearest.any(-1)] = 0
    return smooth
