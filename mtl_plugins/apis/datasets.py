"""Changing what all datasets of a config have in common, also inside wrappers such as ``ConcatDataset``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mtl_plugins.registry import DATASETS

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def leaf_datasets(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Every dataset config that reads data itself, with its place, for example ``train_dataloader.dataset``."""
    for name in LOADERS:
        loader = cfg.get(name)
        if loader and isinstance(loader.get('dataset'), dict):
            yield from _leaves(f'{name}.dataset', loader['dataset'])


def _leaves(place: str, dataset: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(dataset.get('dataset'), dict):
        yield from _leaves(f'{place}.dataset', dataset['dataset'])
    elif isinstance(dataset.get('datasets'), (list, tuple)):
        for number, inner in enumerate(dataset['datasets']):
            yield from _leaves(f'{place}.datasets[{number}]', inner)
    else:
        yield place, dataset


def set_data_root(cfg: Config, root: str | os.PathLike) -> None:
    """Let all datasets of a config (training, validation, test) read from the folder ``root``.

    That is the argument ``root``, or ``data_root`` as MMSegmentation's datasets call it.

    Raises:
        ValueError: If a dataset takes no folder, or the config has no dataset.
    """
    init_default_scope(cfg.get('default_scope') or 'mtl_plugins')
    found = False
    for place, dataset in leaf_datasets(cfg):
        dataset[_root_argument(place, dataset)] = os.fspath(root)
        found = True
    if not found:
        raise ValueError(f'--data-root {root}: the config has no dataset')


def _root_argument(place: str, dataset: Any) -> str:
    named = [name for name in ('root', 'data_root') if name in dataset]
    if named:
        return named[0]
    kind = dataset.get('type')
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    # Its own arguments alone: every MMEngine dataset accepts data_root, also those that read no folder.
    own = inspect.signature(kind.__init__).parameters if kind is not None else ()
    for name in ('root', 'data_root'):
        if name in own:
            return name
    raise ValueError(
        f'--data-root does not apply to {place}: {dataset.get("type")} reads no folder of files (it has neither root '
        'nor data_root). Leave the option out, or choose a config whose data lie in a folder, such as configs/photos'
    )
