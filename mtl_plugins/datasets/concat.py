"""Several datasets as one, each with labels of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dataset import ConcatDataset

from mtl_plugins.errors import UserError, UserTypeError
from mtl_plugins.registry import DATASETS
from mtl_plugins.task_specs import get_task_spec
from mtl_plugins.utils.argument_types import Checked

_PER_TASK = ('classes', 'palettes', 'channels', 'units', 'value_ranges')


@DATASETS.register_module()
class MultiTaskConcatDataset(Checked, ConcatDataset):
    """Datasets with different tasks one after the other; a sample has the labels of the dataset it comes from.

    Each dataset keeps its own pipeline, in which its targets are loaded, checked and augmented. The images of a batch
    must have one size (or the data preprocessor pads them), so crop or pad to the same in every pipeline.

    The meta information is that of all: ``tasks`` is the union in the order of first appearance; ``classes``,
    ``channels`` and ``units`` per task must agree, and so must the ``value_ranges`` of tasks whose scale nothing else
    tells (regression without a unit); of ``palettes`` and all other ``value_ranges``, which are for pictures alone, the
    first dataset that has them wins; other entries are kept where all datasets have the same.

    Args:
        datasets: Configs of datasets, or datasets; each names its tasks in ``metainfo['tasks']``.
        metainfo: Entries that replace the merged ones.
        lazy_init: Whether reading the file lists waits until :meth:`full_init`.

    Raises:
        TypeError: If an entry is neither a config nor a dataset.
        ValueError: If there is no dataset, one does not name its tasks, or two disagree about a task; the message
            says which and how.
    """

    def __init__(
        self, datasets: Sequence[Any], metainfo: Mapping[str, Any] | None = None, lazy_init: bool = False
    ) -> None:
        if not datasets:
            raise UserError(f'MultiTaskConcatDataset: datasets must be a list of datasets, but got {datasets!r}')
        # MMEngine's own constructor wants all datasets to have the same meta information.
        self.datasets = [_built(dataset) for dataset in datasets]
        self.ignore_keys: list[str] = []
        self._metainfo = {**merge_metainfo(self.datasets), **(metainfo or {})}
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()


def merge_metainfo(datasets: Sequence[Any]) -> dict[str, Any]:
    """The meta information of several datasets together; see :class:`MultiTaskConcatDataset`.

    Raises:
        ValueError: If a dataset does not name its tasks, or two disagree about a task.
    """
    names = [f'datasets[{number}] ({type(dataset).__name__})' for number, dataset in enumerate(datasets)]
    metas = [dict(dataset.metainfo) for dataset in datasets]
    for name, meta in zip(names, metas):
        _check(name, meta)
    merged: dict[str, Any] = {
        'tasks': tuple(dict.fromkeys(task for meta in metas for task in meta['tasks'])),
        'classes': _merge('classes', names, metas, tuple),
        'palettes': _first('palettes', metas),
        'channels': _merge('channels', names, metas, int),
        'units': _merge('units', names, metas, str),
        'value_ranges': _first('value_ranges', metas),
    }
    scaled = [{**meta, 'tasks': [task for task in meta['tasks'] if get_task_spec(task).is_bare]} for meta in metas]
    _merge('value_ranges', names, scaled, lambda span: span if isinstance(span, str) else tuple(map(float, span)))
    conventions = _conventions(names, metas)
    if conventions:
        merged['conventions'] = conventions
    for key, value in metas[0].items():
        if key not in merged and all(key in meta and repr(meta[key]) == repr(value) for meta in metas):
            merged[key] = value
    return merged


def _built(dataset: Any) -> Any:
    if isinstance(dataset, Mapping):
        return DATASETS.build(dict(dataset))
    if not hasattr(dataset, 'metainfo') or not hasattr(dataset, 'full_init'):
        raise UserTypeError(
            'MultiTaskConcatDataset: entries of datasets must be configs or datasets of MMEngine, but got '
            f'{type(dataset).__name__}'
        )
    return dataset


def _check(name: str, meta: Mapping[str, Any]) -> None:
    if not meta.get('tasks') or isinstance(meta['tasks'], str):
        raise UserError(
            f"MultiTaskConcatDataset: {name} does not name its tasks; give it metainfo=dict(tasks=('semseg', ...))"
        )
    for key in _PER_TASK:
        if not isinstance(meta.get(key, {}), Mapping):
            raise UserError(
                f"MultiTaskConcatDataset: metainfo['{key}'] of {name} must map tasks to their {key}, but got "
                f'{type(meta[key]).__name__}; give it metainfo=dict({key}=dict(semseg=...))'
            )


def _merge(key: str, names: Sequence[str], metas: Sequence[Mapping[str, Any]], read: Any) -> dict[str, Any]:
    """Entries per task on which all datasets with the task agree, without those that the task table has, too."""
    merged: dict[str, Any] = {}
    source: dict[str, str] = {}
    for name, meta in zip(names, metas):
        for task in meta['tasks']:
            found = meta.get(key, {}).get(task, _in_table(key, task))
            if found is None:
                continue
            found = read(found)
            if merged.setdefault(task, found) != found:
                raise UserError(
                    f"MultiTaskConcatDataset: task '{task}' has other {key} in {source[task]} than in {name}: "
                    f'{_difference(merged[task], found)}. One head cannot learn both: bring the labels of one dataset '
                    'to those of the other, leave the task out of one (tasks=[...]), or make them two tasks '
                    '(mtl_plugins.task_specs.register_task_spec)'
                )
            source.setdefault(task, name)
    return {task: entry for task, entry in merged.items() if entry != _in_table(key, task)}


def _in_table(key: str, task: str) -> Any:
    """What holds for a task of which a dataset tells nothing; None for what only the dataset can tell."""
    spec = get_task_spec(task)
    return dict(channels=spec.channels, units=spec.unit, value_ranges=spec.value_range or 'those of the data').get(key)


def _conventions(names: Sequence[str], metas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How each dataset reads its targets; the same one may be there twice, but not in two ways."""
    merged: dict[str, Any] = {}
    for number, (name, meta) in enumerate(zip(names, metas)):
        for own, by_task in (meta.get('conventions') or {}).items():
            for task, options in by_task.items():
                known = merged.setdefault(own, {}).setdefault(task, options)
                if known != options:
                    raise UserError(
                        f"MultiTaskConcatDataset: task '{task}' of {own} is read with {options} in {name}, but with "
                        f'{known} in one of datasets[0..{number - 1}]; give both the same'
                    )
    return merged


def _first(key: str, metas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {task: entry for meta in reversed(metas) for task, entry in meta.get(key, {}).items()}


def _difference(first: Any, second: Any) -> str:
    if not isinstance(first, tuple) or not isinstance(first[0], str):
        return f'{first} and {second}'
    if len(first) != len(second):
        return f'{len(first)} and {len(second)}'
    number = next(number for number, pair in enumerate(zip(first, second)) if pair[0] != pair[1])
    return f"number {number} is '{first[number]}' and '{second[number]}'"
