"""Which tasks each sample of a dataset carries, without loading any of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mtl_plugins.errors import UserError, UserTypeError

from .transforms.label_subset import RandomLabelSubset


def sample_tasks(dataset: Any) -> tuple[tuple[str, ...], np.ndarray]:
    """Tell which labels the samples of a dataset carry.

    Known are: the tasks of each dataset inside MMEngine's ``ConcatDataset`` and ours, ``RepeatDataset`` and
    ``ClassBalancedDataset``; files that a sample lacks (datasets of files); and what
    :class:`~mtl_plugins.datasets.transforms.RandomLabelSubset` leaves out. A label that is there but marks no pixel
    counts as carried, since nobody knows without reading it.

    Args:
        dataset: A dataset whose leaves name their tasks in ``metainfo['tasks']``.

    Returns:
        The tasks, and a mask ``(number of samples, number of tasks)`` of bools.

    Raises:
        ValueError: If a dataset does not name its tasks.
        TypeError: If the dataset is wrapped in a way that is not known here.
    """
    tasks = tuple(dict.fromkeys(task for leaf in _leaves(dataset) for task in _tasks_of(leaf)))
    return tasks, _carried(dataset, tasks)


def _leaves(dataset: Any) -> Iterator[Any]:
    inner = getattr(dataset, 'datasets', None)
    if inner is not None:
        for each in inner:
            yield from _leaves(each)
    elif hasattr(dataset, 'dataset'):
        yield from _leaves(dataset.dataset)
    else:
        yield dataset


def _tasks_of(leaf: Any) -> Sequence[str]:
    tasks = (getattr(leaf, 'metainfo', None) or {}).get('tasks')
    if not tasks:
        raise UserError(
            f'{type(leaf).__name__} does not say which tasks its samples carry; give it '
            "metainfo=dict(tasks=('semseg', ...))"
        )
    return tasks


def _carried(dataset: Any, tasks: Sequence[str]) -> np.ndarray:
    if getattr(dataset, 'datasets', None) is not None:
        return np.concatenate([_carried(each, tasks) for each in dataset.datasets])
    if hasattr(dataset, 'dataset'):
        inner = _carried(dataset.dataset, tasks)
        if hasattr(dataset, 'repeat_indices'):
            return inner[np.asarray(dataset.repeat_indices, dtype=np.int64)]
        if hasattr(dataset, 'times'):
            return np.tile(inner, (dataset.times, 1))
        raise UserTypeError(
            f'it is not known which samples {type(dataset).__name__} takes from its dataset; use ConcatDataset or '
            'RepeatDataset, or leave out cover'
        )
    return _carried_by_leaf(dataset, tasks)


def _carried_by_leaf(leaf: Any, tasks: Sequence[str]) -> np.ndarray:
    offered = _tasks_of(leaf)
    subsets = list(_label_subsets(getattr(leaf, 'pipeline', None)))
    if not subsets and 'files' not in leaf.get_data_info(0):
        row = np.isin(np.array(tasks), np.array(offered))
        return np.broadcast_to(row, (len(leaf), len(tasks))).copy()
    mask = np.zeros((len(leaf), len(tasks)), dtype=bool)
    columns = {task: number for number, task in enumerate(tasks)}
    for index in range(len(leaf)):
        info = leaf.get_data_info(index)
        present = [task for task in offered if task in info.get('files', offered)]
        for subset in subsets:
            present = subset.remaining(str(info['img_path']), present)
        mask[index, [columns[task] for task in present]] = True
    return mask


def _label_subsets(pipeline: Any) -> Iterator[RandomLabelSubset]:
    """All such transforms of a pipeline, also inside other transforms."""
    if isinstance(pipeline, RandomLabelSubset):
        yield pipeline
    inner = getattr(pipeline, 'transforms', None)
    for each in inner if isinstance(inner, (list, tuple)) else [inner] if hasattr(inner, 'transforms') else ():
        yield from _label_subsets(each)
