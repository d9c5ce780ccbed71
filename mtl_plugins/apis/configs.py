"""From a config file and options to the config of a run."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mtl_plugins.errors import UserError, UserKeyError, message_of, refusing
from mtl_plugins.methods.catalogue import get_method
from mtl_plugins.methods.naming import near_matches
from mtl_plugins.registry import OPTIMIZERS

from .config_files import configs_root, find_config, name_classes
from .datasets import keep_tasks, set_data_root
from .overrides import override
from .run_numbers import settle_numbers

KEPT_BY_METHOD = ('clip_grad', 'paramwise_cfg', 'constructor', 'accumulative_counts', 'precision', 'tasks')
KEPT_BY_METHOD += ('bn_stats', 'nonfinite', 'seed')
"""Entries of ``optim_wrapper`` that another method takes over; ``optimizer`` is merged, all else is the method's."""


def load_config(
    path: str | os.PathLike,
    cfg_options: dict[str, Any] | None = None,
    method: str | None = None,
    precision: str | None = None,
    seed: int | None = None,
    work_dir: str | None = None,
    data_root: str | None = None,
    tasks: Sequence[str] | None = None,
) -> Config:
    """Read a config and apply the options that the tools share.

    Args:
        path: Config file, or ``package::folder/name.py``; see :func:`mtl_plugins.apis.config_files.find_config`.
        cfg_options: Entries to change, as MMEngine's ``--cfg-options``.
        method: Key of the catalogue; see :func:`set_method`.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        seed: Random seed of the run.
        work_dir: Folder of the run; by default ``work_dirs/<config name>[--<method>][--<tasks>]``.
        data_root: Folder of the data, see :func:`mtl_plugins.apis.datasets.set_data_root`.
        tasks: Only these tasks of the config; see :func:`set_tasks`.

    Raises:
        FileNotFoundError: If there is no such config.
        KeyError: If there is no such method or task.
        ValueError: If ``precision`` or ``data_root`` does not apply to the config.
    """
    cfg = read_config(path)
    name_classes(cfg._cfg_dict)
    if method is not None:
        set_method(cfg, method)
    if precision is not None:
        set_precision(cfg, precision)
    if data_root is not None:
        set_data_root(cfg, data_root)
    if tasks is not None:
        set_tasks(cfg, tasks)
    override(cfg, cfg_options or {})
    settle_numbers(cfg)
    if seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        name = Path(str(path)).stem + (f'--{method}' if method else '') + (f'--{"+".join(tasks)}' if tasks else '')
        cfg.work_dir = str(Path('work_dirs') / name)
    return cfg


def read_config(path: str | os.PathLike) -> Config:
    """Read a config file as it is.

    Raises:
        UserError: If there is no such file, or whatever running it raised.
    """
    file = find_config(path)
    try:
        return Config.fromfile(str(file))
    except Exception as error:  # a config is a program of the user and may raise anything
        raise UserError(f'config {path} cannot be read: {type(error).__name__}: {message_of(error)}') from error


def set_method(cfg: Config, key: str) -> None:
    """Swap the method of a config: replace ``optim_wrapper`` by the method's fragment.

    ``optimizer`` is merged and the entries of :data:`KEPT_BY_METHOD` stay; every other entry belonged to the former
    method and goes. Where the method brings an optimizer of its own (AdaTask), the settings that it does not know are
    left out, with a message. MMEngine's ``AmpOptimWrapper`` becomes the ``precision`` of ours.

    Raises:
        KeyError: If there is no such method; the message lists the near matches.
    """
    with refusing():
        get_method(key)
    fragment = Config.fromfile(str(configs_root() / '_base_' / 'methods' / f'{key}.py'))
    former = cfg.get('optim_wrapper') or {}
    wrapper = {name: former[name] for name in KEPT_BY_METHOD if name in former}
    if str(former.get('type')).rpartition('.')[2] == 'AmpOptimWrapper':
        wrapper['precision'] = _precision_of_amp(former)
    wrapper.update(fragment.optim_wrapper.to_dict())
    wrapper['optimizer'] = _merge_optimizers(former.get('optimizer', {}), fragment.optim_wrapper.get('optimizer', {}))
    cfg.optim_wrapper = wrapper


def _precision_of_amp(wrapper: Mapping[str, Any]) -> str:
    """Our name for what MMEngine's ``AmpOptimWrapper`` computes in; like it, fp16 unless it says otherwise."""
    return {'bfloat16': 'bf16', 'float32': 'fp32'}.get(str(wrapper.get('dtype')).removeprefix('torch.'), 'fp16')


def _merge_optimizers(former: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    if former.get('type', wanted.get('type')) == wanted.get('type', former.get('type')):
        return {**former, **wanted}
    known = inspect.signature(OPTIMIZERS.get(wanted['type'])).parameters
    kept = {name: value for name, value in former.items() if name in known}
    dropped = [name for name in former if name not in known and name != 'type']
    notes = [f'left out {", ".join(dropped)}, which it does not take'] * bool(dropped)
    if former['type'] == 'AdamW' and former.get('weight_decay', 0.01):
        notes.append('weight_decay is an L2 penalty there, not decoupled from the gradient')
    if notes:
        # The logger of the run does not exist yet.
        print_log(f'the method replaces the optimizer {former["type"]} by {wanted["type"]}: {"; ".join(notes)}')
    return {**kept, **wanted}


def set_precision(cfg: Config, precision: str) -> None:
    """Set the computing precision.

    Raises:
        ValueError: If the optimizer wrapper of the config is MMEngine's.
    """
    kind = str((cfg.get('optim_wrapper') or {}).get('type'))
    if kind in ('None', 'OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(
            f'--precision {precision} is an option of the optimizer wrappers of mtl_plugins, but optim_wrapper.type is '
            f"{kind}. Add --method gd, or set MMEngine's own optim_wrapper.type=AmpOptimWrapper"
        )
    cfg.optim_wrapper.precision = precision


def set_tasks(cfg: Config, tasks: Sequence[str]) -> None:
    """Restrict a config of a :class:`MultiTaskSegmentor` to some of its tasks: data, heads, evaluation, hooks.

    Raises:
        KeyError: If the model has no head for a task.
        ValueError: If the model has no ``heads`` at all, or no task is named.
    """
    heads = (cfg.get('model') or {}).get('heads')
    if not heads:
        raise UserError(
            'tasks can only be chosen for a model with one head per task (type="mtl_plugins.MultiTaskSegmentor", '
            'heads=dict(<task>=...))'
        )
    if not tasks:
        raise UserError(f'no task is named; the model has {", ".join(heads)}')
    unknown = [task for task in tasks if task not in heads]
    if unknown:
        near = '; '.join(f"'{task}': {near_matches(task, heads)}" for task in unknown)
        raise UserKeyError(f'the model has no head for {near}')
    # Merging would keep the other heads, so the old ones go first.
    cfg.model.pop('heads')
    cfg.model.heads = {task: heads[task] for task in tasks}
    keep_tasks(cfg, tasks)
    for name in ('val_evaluator', 'test_evaluator'):
        if isinstance(cfg.get(name), dict):
            _restrict_evaluator(cfg[name], tasks)
    for part in (cfg.get('optim_wrapper'), *cfg.get('custom_hooks', [])):
        if part and part.get('tasks'):
            part['tasks'] = _restricted(part['tasks'], tasks)


def _restrict_evaluator(evaluator: Any, tasks: Sequence[str]) -> None:
    evaluator['tasks'] = list(tasks)
    metrics = evaluator.get('metrics')
    if isinstance(metrics, (list, tuple)):
        evaluator['metrics'] = [metric for metric in metrics if metric.get('task', tasks[0]) in tasks]
    if evaluator.get('headlines'):
        evaluator['headlines'] = _restricted(evaluator.pop('headlines'), tasks)


def _restricted(entries: Any, tasks: Sequence[str]) -> Any:
    """The part of a list of tasks, or of a dict with tasks as keys, that is about ``tasks``."""
    if isinstance(entries, dict):
        return {task: entry for task, entry in entries.items() if task in tasks}
    return [task for task in entries if task in tasks]
