"""From a config file and options to the config of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mtl_plugins
from mtl_plugins.methods.catalogue import get_method

KEPT_BY_METHOD = ('clip_grad', 'paramwise_cfg', 'constructor', 'accumulative_counts', 'precision', 'tasks')
KEPT_BY_METHOD += ('bn_stats', 'nonfinite', 'seed')
"""Entries of ``optim_wrapper`` that another method takes over; ``optimizer`` is merged, all else is the method's."""


def configs_root() -> Path:
    """The folder of the shipped configs: in a checkout, beside the package; in a wheel, inside it.

    Raises:
        FileNotFoundError: If neither is there.
    """
    package = Path(mtl_plugins.__file__).parent
    for candidate in (package.parent / 'configs', package / '.mim' / 'configs'):
        if (candidate / '_base_' / 'methods').is_dir():
            return candidate
    raise FileNotFoundError(f'the configs of mtl_plugins were not found beside or inside {package}; reinstall it')


def load_config(
    path: str | os.PathLike,
    cfg_options: dict[str, Any] | None = None,
    method: str | None = None,
    precision: str | None = None,
    seed: int | None = None,
    work_dir: str | None = None,
) -> Config:
    """Read a config and apply the options that the tools share.

    Args:
        path: Config file.
        cfg_options: Entries to change, as MMEngine's ``--cfg-options``.
        method: Key of the catalogue; see :func:`set_method`.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        seed: Random seed of the run.
        work_dir: Folder of the run; by default ``work_dirs/<config name>[--<method>]``.

    Raises:
        FileNotFoundError: If there is no such config.
        KeyError: If there is no such method.
    """
    if '::' not in str(path) and not Path(path).is_file():
        raise FileNotFoundError(f'config {path} not found; the shipped ones are in {configs_root()}')
    cfg = Config.fromfile(str(path))
    if method is not None:
        set_method(cfg, method)
    if precision is not None:
        cfg.optim_wrapper.precision = precision
    cfg.merge_from_dict(cfg_options or {})
    if seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        name = Path(str(path)).stem + (f'--{method}' if method else '')
        cfg.work_dir = str(Path('work_dirs') / name)
    return cfg


def set_method(cfg: Config, key: str) -> None:
    """Swap the method of a config: replace ``optim_wrapper`` by the method's fragment.

    ``optimizer`` is merged and the entries of :data:`KEPT_BY_METHOD` stay; every other entry belonged to the former
    method and goes.

    Raises:
        KeyError: If there is no such method; the message lists the near matches.
    """
    get_method(key)
    fragment = Config.fromfile(str(configs_root() / '_base_' / 'methods' / f'{key}.py'))
    former = cfg.get('optim_wrapper') or {}
    wrapper = {name: former[name] for name in KEPT_BY_METHOD if name in former}
    wrapper.update(fragment.optim_wrapper.to_dict())
    wrapper['optimizer'] = {**former.get('optimizer', {}), **fragment.optim_wrapper.get('optimizer', {})}
    cfg.optim_wrapper = wrapper


def set_tasks(cfg: Config, tasks: list[str]) -> None:
    """Restrict a config of a :class:`MultiTaskSegmentor` to some of its tasks: data, heads and evaluation.

    Raises:
        KeyError: If the model has no head for a task.
    """
    unknown = [task for task in tasks if task not in cfg.model.heads]
    if unknown:
        raise KeyError(f'the model has no head for {unknown}; its tasks: {", ".join(cfg.model.heads)}')
    heads = cfg.model.heads
    cfg.model.pop('heads')
    cfg.model.heads = {task: heads[task] for task in tasks}
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name):
            cfg[name].dataset.tasks = list(tasks)
    for name in ('val_evaluator', 'test_evaluator'):
        if cfg.get(name):
            cfg[name].tasks = list(tasks)
