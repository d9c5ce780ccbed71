"""Whether a dataset's targets mean what they meant when a checkpoint was trained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl_plugins.task_specs import TASK_SPECS

KEY = 'conventions'
OPTION = 'default_hooks.target_check.differing=warn'
"""Goes on all the same."""


def leaf_datasets(place: str, dataset: Any) -> Iterator[tuple[str, Any]]:
    """The datasets inside wrappers and concatenations, each with its place as ``--cfg-options`` takes it."""
    inner = getattr(dataset, 'datasets', None)
    if isinstance(inner, (list, tuple)):
        for number, each in enumerate(inner):
            yield from leaf_datasets(f'{place}.datasets.{number}', each)
    elif hasattr(getattr(dataset, 'dataset', None), 'metainfo'):
        yield from leaf_datasets(f'{place}.dataset', dataset.dataset)
    else:
        yield place, dataset


def target_differences(
    trained: Mapping[str, Any] | None,
    dataset: Any,
    place: str,
    tasks: Sequence[str] | None = None,
    labels: bool = True,
) -> list[str]:
    """What the targets of a dataset mean now and did not in training, one sentence each with the way back.

    Compared are the options that a dataset names in ``metainfo['conventions']`` (dataset -> task -> option ->
    value; see :meth:`mtl_plugins.datasets.files.FilesDataset.conventions`), the classes of each task, its unit, the
    range of its values where nothing else tells their scale, and mmseg's ``reduce_zero_label``. Options of another
    dataset are not compared. What a checkpoint does not say is not compared either, unless the dataset's default for it
    has changed since (``FORMER_DEFAULTS``) and the config leaves it to the default.

    Args:
        trained: ``checkpoint['meta']['dataset_meta']``; None if there is none.
        dataset: The dataset that is read now.
        place: Where it stands in the config, for example ``'test_dataloader.dataset'``.
        tasks: Tasks that matter, None for all.
        labels: Whether classes, units, ranges and ``reduce_zero_label`` are compared too.
    """
    trained = trained if isinstance(trained, Mapping) else {}
    told = []
    for spot, leaf in leaf_datasets(place, dataset):
        for name, by_task in (_metainfo(leaf).get(KEY) or {}).items():
            for task, options in by_task.items():
                if tasks is None or task in tasks:
                    saved = (trained.get(KEY) or {}).get(name, {}).get(task, {})
                    told += _option_differences(leaf, spot, task, options, saved, KEY in trained)
    if labels:
        told += _label_differences(trained, _metainfo(dataset), tasks)
        told += _scale_differences(trained, _metainfo(dataset), tasks)
    return list(dict.fromkeys(told))


def _option_differences(
    leaf: Any, spot: str, task: str, options: Mapping[str, Any], saved: Mapping[str, Any], says: bool
) -> Iterator[str]:
    former = getattr(leaf, 'FORMER_DEFAULTS', {})
    for option, value in options.items():
        if option in saved:
            if _plain(saved[option]) != _plain(value):
                yield (
                    f'{option} of task {task} was {_plain(saved[option])!r} in training and is {_plain(value)!r} now; '
                    f'{spot}.{option}={_as_option(saved[option])} restores it'
                )
        elif not says and option in former and option not in leaf.stated:
            yield (
                f'{option} of task {task} is not told by the checkpoint: in versions that did not tell it the default '
                f'was {_plain(former[option])!r}, now it is {_plain(value)!r}; say which it is, '
                f'{spot}.{option}={_as_option(former[option])} or {spot}.{option}={_as_option(value)}'
            )


def _label_differences(
    trained: Mapping[str, Any], now: Mapping[str, Any], tasks: Sequence[str] | None
) -> Iterator[str]:
    first, second = trained.get('classes'), now.get('classes')
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        both = [task for task in second if task in first and (tasks is None or task in tasks)]
        pairs = {f' of task {task}': (first[task], second[task]) for task in both}
    else:
        pairs = {'': (first, second)}
    for what, (before, after) in pairs.items():
        if not (isinstance(before, (list, tuple)) and isinstance(after, (list, tuple))):
            continue
        if list(before) != list(after):
            yield f'the classes{what} were others in training: {_first_difference(before, after)}'
    for option in ('reduce_zero_label',):
        before, after = trained.get(option), now.get(option)
        if before is not None and after is not None and bool(before) != bool(after):
            yield f'{option} was {before} in training and is {after} now'


def _scale_differences(
    trained: Mapping[str, Any], now: Mapping[str, Any], tasks: Sequence[str] | None
) -> Iterator[str]:
    for task in now.get('tasks') or ():
        spec = TASK_SPECS.get(task)
        if spec is None or task not in (trained.get('tasks') or ()) or (tasks is not None and task not in tasks):
            continue
        # What neither dataset tells is that of the table, where the table tells it.
        for key, what, table in (('units', 'unit', None), ('value_ranges', 'range of values', spec.value_range)):
            before, after = (_plain((meta.get(key) or {}).get(task, table)) for meta in (trained, now))
            if (key == 'units' or spec.is_bare) and None not in (before, after) and before != after:
                yield f'the {what} of task {task} was {before} in training and is {after} now'


def _first_difference(before: Sequence[Any], after: Sequence[Any]) -> str:
    if len(before) != len(after):
        return f'{len(before)}, and {len(after)} now'
    number = next(number for number, pair in enumerate(zip(before, after)) if pair[0] != pair[1])
    return f'number {number} was {str(before[number])!r} and is {str(after[number])!r} now'


def _metainfo(dataset: Any) -> Mapping[str, Any]:
    found = getattr(dataset, 'metainfo', None)
    return found if isinstance(found, Mapping) else {}


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _as_option(value: Any) -> str:
    return ','.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
