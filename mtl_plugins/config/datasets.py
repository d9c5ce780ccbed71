"""Changing what all datasets of a config have in common, also inside wrappers such as ``ConcatDataset``."""

import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mtl_plugins.datasets import FilesDataset
from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.registry import DATASETS

from .places import LOADERS, enter_scope


def leaf_datasets(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Every dataset config that reads data itself, with its place, for example ``train_dataloader.dataset``."""
    for name in LOADERS:
        loader = cfg.get(name)
        if loader and isinstance(loader.get('dataset'), dict):
            yield from leaves_of(f'{name}.dataset', loader['dataset'])


def file_datasets(cfg: Config) -> Iterator[tuple[str, FilesDataset]]:
    """Those of :func:`leaf_datasets` that live in folders of files, built without reading anything."""
    for place, settings in leaf_datasets(cfg):
        kind = _class_of(settings)
        if isinstance(kind, type) and issubclass(kind, FilesDataset):
            yield place, DATASETS.build({**settings, 'pipeline': [], 'lazy_init': True})


def check_folders(cfg: Config) -> None:
    """Refuse data that are not there, before many trainings stop because of them one by one.

    Raises:
        FileNotFoundError: If a folder of the training or validation data is missing; it says where it was looked for.
    """
    for place, dataset in file_datasets(cfg):
        if not place.startswith('test'):
            dataset.find_root(dataset.data_root)
    for place, settings in leaf_datasets(cfg):
        root = settings.get('data_root')
        if root and not place.startswith('test') and not Path(root).is_dir():
            raise UserFileNotFoundError(
                f'the data are not where {place}.data_root says: {root} does not exist; correct it, or give the folder '
                'of your data: --data-root DIR'
            )


def leaves_of(place: str, dataset: Any) -> Iterator[tuple[str, Any]]:
    """The datasets inside wrappers and concatenations that read data themselves, each with its place."""
    if isinstance(dataset.get('dataset'), dict):
        yield from leaves_of(f'{place}.dataset', dataset['dataset'])
    elif isinstance(dataset.get('datasets'), (list, tuple)):
        for number, inner in enumerate(dataset['datasets']):
            yield from leaves_of(f'{place}.datasets.{number}', inner)
    else:
        yield place, dataset


def keep_tasks(cfg: Config, tasks: Sequence[str]) -> None:
    """Restrict the datasets of a config to some tasks.

    In a concatenation each dataset keeps those of its own, and a dataset without any of them is left out, together
    with its weight in ``sampler.mixing``.

    Raises:
        ValueError: If no dataset of a concatenation has any of the tasks.
    """
    for name in LOADERS:
        loader = cfg.get(name)
        if not loader or not isinstance(loader.get('dataset'), dict):
            continue
        kept = _keep_tasks(f'{name}.dataset', loader['dataset'], tasks)
        weights = (loader.get('sampler') or {}).get('mixing')
        if isinstance(weights, (list, tuple)) and len(weights) == len(kept):
            loader['sampler']['mixing'] = [weight for weight, stays in zip(weights, kept) if stays]


def _keep_tasks(place: str, dataset: Any, tasks: Sequence[str]) -> list[bool]:
    """Restrict one dataset; returns which entries of a concatenation stay."""
    if isinstance(dataset.get('dataset'), dict):
        return _keep_tasks(f'{place}.dataset', dataset['dataset'], tasks)
    if not isinstance(dataset.get('datasets'), (list, tuple)):
        dataset['tasks'] = list(tasks)
        return [True]
    own = [[task for task in tasks if task in _offered(inner, tasks)] for inner in dataset['datasets']]
    if not any(own):
        raise UserError(f'none of the datasets of {place} has {", ".join(tasks)}')
    for number, (inner, wanted) in enumerate(zip(dataset['datasets'], own)):
        if wanted:
            _keep_tasks(f'{place}.datasets.{number}', inner, wanted)
    dataset['datasets'] = [inner for inner, wanted in zip(dataset['datasets'], own) if wanted]
    return [bool(wanted) for wanted in own]


def _offered(dataset: Any, default: Sequence[str]) -> Sequence[str]:
    """The tasks that a dataset gives by its config or its class; ``default`` if neither says so."""
    found: list[str] = []
    for _, leaf in leaves_of('', dataset):
        kind = _class_of(leaf)
        argument = inspect.signature(kind.__init__).parameters.get('tasks') if kind is not None else None
        by_class = getattr(argument, 'default', None) or getattr(kind, 'TASKS', None)
        found += leaf.get('tasks') or (by_class if isinstance(by_class, (list, tuple)) else default)
    return found


def broken_cover(loader: Any, world_size: int = 1) -> str | None:
    """Why the batches of a loader need not have every task although its sampler is told so (``cover``), else None.

    Args:
        loader: Config of the data loader, or None.
        world_size: Number of processes.
    """
    cover = ((loader or {}).get('sampler') or {}).get('cover')
    size = (loader or {}).get('batch_size') or 1
    if not cover or size * world_size % cover == 0:
        return None
    return (
        f'sampler.cover={cover} keeps every task in runs of {cover} samples, but batches have {size} x {world_size} '
        'samples (batch size x processes), which is no multiple: some batches may lack a task. Set sampler.cover='
        f'{size}, or another divisor of it'
    )


def set_data_root(cfg: Config, root: str | os.PathLike) -> None:
    """Let all datasets of a config (training, validation, test) read from the folder ``root``.

    That is the argument ``root``, or ``data_root`` as MMSegmentation's datasets call it. Beside such datasets, those
    that read no folder (rendered rooms) stay as they are.

    Raises:
        ValueError: If no dataset takes a folder, or the config has no dataset.
    """
    enter_scope(cfg)
    leaves = list(leaf_datasets(cfg))
    if not leaves:
        raise UserError(f'--data-root {root}: the config has no dataset')
    arguments = [_root_argument(dataset) for _, dataset in leaves]
    if not any(arguments):
        place, dataset = leaves[0]
        raise UserError(
            f'--data-root does not apply to {place}: {dataset.get("type")} reads no folder of files (it has neither '
            'root nor data_root). Leave the option out, or choose a config whose data lie in a folder, such as '
            'configs/photos'
        )
    for (_, dataset), argument in zip(leaves, arguments):
        if argument:
            dataset[argument] = os.path.expanduser(root)


def _root_argument(dataset: Any) -> str | None:
    """Name of the argument that takes the folder, if there is one."""
    kind = _class_of(dataset)
    # Its own arguments alone: every MMEngine dataset accepts data_root, also those that read no folder.
    own = inspect.signature(kind.__init__).parameters if kind is not None else ()
    return next((name for name in ('root', 'data_root') if name in dataset or name in own), None)


def _class_of(dataset: Any) -> Any:
    """The class that the config of a dataset names; None if there is none."""
    kind = dataset.get('type')
    return DATASETS.get(kind) if isinstance(kind, str) else kind
