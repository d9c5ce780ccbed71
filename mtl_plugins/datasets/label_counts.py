"""How often each class is labelled in a dataset."""

import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from torch.utils.data import DataLoader, Dataset

from mtl_plugins.errors import UserError
from mtl_plugins.task_specs import IGNORE_INDEX
from mtl_plugins.utils.parallel import tracked

from .cache import FileCache, default_cache_dir, fingerprint
from .transforms.fields import target_key

_MOVING = ('Crop', 'Flip', 'Resize', 'Scale', 'Pad', 'Affine', 'Rotate', 'CutOut', 'Mosaic', 'PhotoMetric', 'Pack')
"""Transforms with these words in their names move or colour what is labelled, and do not change labels."""
_LISTS = ('data_list', 'data_bytes', 'data_address')
"""Where MMEngine's datasets keep the descriptions of their samples, whose files count by themselves."""


def class_counts(dataset: Any, classes: Mapping[str, int], num_workers: int = 0) -> dict[str, tuple[list, list]]:
    """Count the labelled pixels of each class, without the random part of the pipeline.

    Transforms that crop, flip, resize, pad, colour or pack are left out, and whatever stands in ``SeededTransforms``;
    others, which may change labels, are applied. The result is kept in the cache for as long as the files, the
    pipeline and the settings of the dataset stay as they are.

    Args:
        dataset: The dataset; concatenations and wrappers too.
        classes: Task -> number of its classes.
        num_workers: Processes that read labels.

    Returns:
        Task -> (pixels of each class, labelled pixels of the images that show the class).

    Raises:
        UserError: If a label is none of the classes, or no sample has the labels of a task.
    """
    plain = _without_moving(dataset)
    parameters = _parameters(plain, classes)
    if parameters is None:
        return _count(plain, classes, num_workers)
    cache = FileCache(default_cache_dir() / 'class_counts')
    counts = cache.get(f'{fingerprint(parameters)}.json', lambda: _count(plain, classes, num_workers), {...: [[int]]})
    return {task: tuple(pair) for task, pair in counts.items()}


def _count(dataset: Any, classes: Mapping[str, int], num_workers: int) -> dict[str, tuple[list, list]]:
    totals = {task: np.zeros((2, number), np.int64) for task, number in classes.items()}

    def added() -> Iterator[int]:
        loader = DataLoader(_Counted(dataset, classes), batch_size=None, num_workers=num_workers, collate_fn=_as_is)
        for number, sample in enumerate(loader):
            for task, pixels in sample.items():
                if len(pixels) > classes[task]:
                    raise UserError(
                        f"class_weight='auto': sample {number} has the label {len(pixels) - 1} of task {task}, which "
                        f'has {classes[task]} classes; check num_classes and the labels (browse draws them)'
                    )
                totals[task][0] += pixels
                totals[task][1] += np.where(pixels > 0, pixels.sum(), 0)
            yield number

    for _ in tracked(added(), f'Count labels ({", ".join(classes)})', len(dataset)):
        pass
    for task, (pixels, _) in totals.items():
        if not pixels.any():
            raise UserError(
                f"class_weight='auto': none of the {len(dataset)} training samples has a labelled pixel of task {task}"
            )
    return {task: (pixels.tolist(), present.tolist()) for task, (pixels, present) in totals.items()}


class _Counted(Dataset):
    """Labelled pixels of each class, sample by sample; the pixels themselves stay in the worker."""

    def __init__(self, dataset: Any, classes: Mapping[str, int]) -> None:
        self.dataset = dataset
        self.classes = dict(classes)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        sample = self.dataset[index]
        found = {}
        for task, number in self.classes.items():
            target = sample.get(target_key(task)) if isinstance(sample, Mapping) else None
            if target is not None:
                values = np.asarray(target).ravel().astype(np.int64)
                found[task] = np.bincount(values[values != IGNORE_INDEX], minlength=number)
        return found


def _as_is(sample: Any) -> Any:
    return sample


def _without_moving(dataset: Any) -> Any:
    """The dataset without the transforms that leave labels as they are; the given one is not changed."""
    plain = copy.copy(dataset)
    if isinstance(getattr(dataset, 'datasets', None), (list, tuple)):
        plain.datasets = [_without_moving(part) for part in dataset.datasets]
    elif hasattr(getattr(dataset, 'dataset', None), '__getitem__'):
        plain.dataset = _without_moving(dataset.dataset)
    elif hasattr(getattr(dataset, 'pipeline', None), 'transforms'):
        kept = [one for one in dataset.pipeline.transforms if not _moves(type(one).__name__)]
        plain.pipeline = Compose(kept)
    return plain


def _moves(name: str) -> bool:
    return name == 'SeededTransforms' or any(word in name for word in _MOVING)


def _parameters(dataset: Any, classes: Mapping[str, int]) -> dict[str, Any] | None:
    """All that decides what is counted, None if it cannot be told."""
    try:
        files = [_stamps(dataset.get_data_info(index)) for index in range(len(dataset))]
    except (AttributeError, TypeError, OSError):
        return None
    if not all(files):
        return None
    return dict(version=1, classes=dict(classes), settings=_settings(dataset), files=fingerprint(dict(all=files)))


def _settings(dataset: Any) -> list[Any]:
    """Type, pipeline and plain attributes of a dataset and of those inside it."""
    inner = getattr(dataset, 'datasets', None)
    inner = (
        inner if isinstance(inner, (list, tuple)) else [part for part in [getattr(dataset, 'dataset', None)] if part]
    )
    pipeline = repr(getattr(dataset, 'pipeline', None))
    parts = (dataset, getattr(dataset, 'reader', None))
    return [type(dataset).__qualname__, pipeline, [_plain(part) for part in parts], [_settings(part) for part in inner]]


def _plain(owner: Any) -> dict[str, str]:
    """Attributes in full: a table that renumbers labels may be long."""
    kinds = (str, int, float, bool, tuple, list, dict, type(None))
    found = {key: value for key, value in getattr(owner, '__dict__', {}).items() if key not in _LISTS}
    found = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in found.items()}
    return {key: repr(value) for key, value in found.items() if isinstance(value, kinds)}


def _stamps(info: Any) -> list[Any]:
    """Path, size and time of every file that a description of a sample names."""
    if isinstance(info, Mapping):
        return [stamp for key in sorted(info, key=str) for stamp in _stamps(info[key])]
    if isinstance(info, (list, tuple)):
        return [stamp for value in info for stamp in _stamps(value)]
    if isinstance(info, (str, os.PathLike)) and os.path.isabs(info) and os.path.isfile(info):
        stat = os.stat(info)
        return [[str(info), stat.st_size, stat.st_mtime_ns]]
    return []
