"""From a config file and options to the config of a run."""

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import load
from mmengine.logging import print_log

from mtl_plugins.engine.catalogue import get_method
from mtl_plugins.engine.step.precision import precision_entry
from mtl_plugins.errors import UserError, UserKeyError, message_of, refusing
from mtl_plugins.methods.naming import near_matches
from mtl_plugins.registry import OPTIMIZERS
from mtl_plugins.utils.files import path_to_write

from .cfg_options import OPTION
from .datasets import keep_tasks, leaf_datasets, set_data_root
from .files import configs_root, find_config, settle_entries
from .hints import classes_named
from .names import check_names
from .numbers import check_shapes, settle_numbers
from .overrides import override
from .places import kind_of
from .plain_yaml import plain_yaml
from .sources import check_base_variables, check_config_text, missing_base_variable

KEPT_BY_METHOD = ('clip_grad', 'paramwise_cfg', 'constructor', 'accumulative_counts', 'precision', 'tasks')
KEPT_BY_METHOD += ('bn_stats', 'nonfinite', 'num_valid', 'seed')
"""Entries of ``optim_wrapper`` that another method takes over; ``optimizer`` is merged, all else is the method's."""


def load_config(
    path: str | os.PathLike,
    cfg_options: dict[str, Any] | None = None,
    method: str | None = None,
    precision: str | None = None,
    seed: int | None = None,
    work_dir: str | os.PathLike | None = None,
    data_root: str | None = None,
    tasks: Sequence[str] | None = None,
) -> Config:
    """Read a config and apply the options that the tools share.

    Args:
        path: Config file, or ``package::folder/name.py``; see :func:`mtl_plugins.config.files.find_config`.
        cfg_options: Entries to change, as MMEngine's ``--cfg-options``.
        method: Key of the catalogue; see :func:`set_method`.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        seed: Random seed of the run.
        work_dir: Folder of the run; by default ``work_dirs/<config name>[--<method>][--<tasks>]``.
        data_root: Folder of the data, see :func:`mtl_plugins.config.datasets.set_data_root`.
        tasks: Only these tasks of the config; see :func:`set_tasks`.

    Raises:
        FileNotFoundError: If there is no such config.
        KeyError: If there is no such method or task.
        ValueError: If ``precision`` or ``data_root`` does not apply to the config.
    """
    cfg = read_config(path)
    check_shapes(cfg)
    if method is not None:
        set_method(cfg, method)
    if precision is not None:
        set_precision(cfg, precision)
    if data_root is not None:
        set_data_root(cfg, data_root)
    if tasks is not None:
        set_tasks(cfg, tasks)
    chosen = _parts(cfg)
    override(cfg, cfg_options or {})
    for place, kind in _parts(cfg).items() if method is not None else ():
        if kind != chosen[place] != '':
            raise UserError(
                f'--method {method} and {OPTION} {place}={kind or None} contradict each other: the method has '
                f'{chosen[place]}; leave one of them out'
            )
    settle_numbers(cfg)
    check_names(cfg)
    if seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get('work_dir') is None:
        name = Path(str(path)).stem + (f'--{method}' if method else '') + (f'--{"+".join(tasks)}' if tasks else '')
        cfg.work_dir = str(Path('work_dirs') / name)
    cfg.work_dir = str(path_to_write(cfg.work_dir, 'work_dir'))
    return cfg


def read_config(path: str | os.PathLike) -> Config:
    """Read a config file as it is. A YAML file is data: tags that would run code are refused.

    Raises:
        UserError: If there is no such file, or whatever running it raised.
    """
    file = find_config(path)
    check_config_text(file)
    try:
        with plain_yaml():
            content = {} if file.suffix == '.py' else load(str(file))
            cfg = Config.fromfile(str(file)) if isinstance(content, dict) else Config()
            settle_entries(cfg._cfg_dict)  # looks at all entries: imports that MMEngine has put off are made here
    except (Exception, SystemExit) as error:  # a config is a program of the user and may raise anything
        raise UserError(f'config {path} cannot be read: {_reason(error)}') from error
    if not isinstance(content, dict):
        held = f'{type(content).__name__} {content!r:.80}'
        raise UserError(f'config {path}: expected names and values, but it holds {held}')
    check_base_variables(file, cfg)
    return cfg


def _reason(error: BaseException) -> str:
    """What is wrong, in one line; of a module in ``custom_imports`` MMEngine says at length where it looked."""
    text, variable = message_of(error), missing_base_variable(error)
    if variable:
        return f'{{{{_base_.{variable}}}}} is no entry of its base configs'
    if not text.startswith('Failed to import custom modules'):
        return text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    text = message_of(error)
    known = ' (of onedl-mmdetection, see docs/existing_models.md)' if 'mmdet' in text else ''
    return f'custom_imports: {text}{known}; install it, or name the folder that holds it in PYTHONPATH'


def _parts(cfg: Config) -> dict[str, str]:
    """The classes that make a method what it is, by their place."""
    wrapper = cfg.get('optim_wrapper') or {}
    parts = {'': wrapper, **{f'.{name}': wrapper.get(name) for name in ('weighting', 'aggregator')}}
    return {f'optim_wrapper{name}.type': kind_of(part) for name, part in parts.items()}


def set_method(cfg: Config, key: str) -> None:
    """Swap the method of a config: replace ``optim_wrapper`` by the method's fragment.

    ``optimizer`` is merged and the entries of :data:`KEPT_BY_METHOD` stay; every other entry belonged to the former
    method and goes. Where the method brings an optimizer of its own (AdaTask), the settings that it does not know are
    left out, with a message. What MMEngine's ``AmpOptimWrapper`` says becomes the ``precision`` of ours.

    Raises:
        KeyError: If there is no such method; the message lists the near matches.
    """
    with refusing():
        get_method(key)
    fragment = Config.fromfile(str(configs_root() / '_base_' / 'methods' / f'{key}.py'))
    former = cfg.get('optim_wrapper') or {}
    _refuse_several_optimizers(former, f'--method {key}')
    wrapper = {name: former[name] for name in KEPT_BY_METHOD if name in former}
    if kind_of(former) == 'AmpOptimWrapper' or not {'loss_scale', 'dtype'}.isdisjoint(former):
        # Without the first loss scale, which adapts within a few steps.
        wrapper['precision'] = precision_entry(former.get('precision'), 'dynamic', former.get('dtype'))
    wrapper.update(fragment.optim_wrapper.to_dict())
    wrapper['optimizer'] = _merge_optimizers(former.get('optimizer', {}), fragment.optim_wrapper.get('optimizer', {}))
    cfg.optim_wrapper = wrapper


def _merge_optimizers(former: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    if former.get('type', wanted.get('type')) == wanted.get('type', former.get('type')):
        return {**former, **wanted}
    known = inspect.signature(OPTIMIZERS.get(wanted['type'])).parameters
    kept = {name: value for name, value in former.items() if name in known}
    dropped = [name for name in former if name not in known and name != 'type']
    notes = [f'left out {", ".join(dropped)}, which it does not take'] * bool(dropped)
    if kind_of(former) == 'AdamW' and former.get('weight_decay', 0.01):
        notes.append('weight_decay is an L2 penalty there, not decoupled from the gradient')
    if notes:
        # The logger of the run does not exist yet.
        print_log(f'the method replaces the optimizer {kind_of(former)} by {wanted["type"]}: {"; ".join(notes)}')
    return {**kept, **wanted}


def _refuse_several_optimizers(wrapper: Mapping[str, Any], option: str) -> None:
    parts = [name for name, part in wrapper.items() if isinstance(part, Mapping) and 'optimizer' in part]
    if parts:
        raise UserError(
            f'{option} is for one optimizer of the whole model, but optim_wrapper has one each for {", ".join(parts)}. '
            'Write optim_wrapper=dict(optimizer=dict(...)), with paramwise_cfg=dict(custom_keys=dict(...)) where parts '
            'of the model need rates of their own'
        )


def set_precision(cfg: Config, precision: str) -> None:
    """Set the computing precision: of our optimizer wrappers, or by the choice between MMEngine's two.

    Raises:
        UserError: If the config has no optimizer wrapper, or one per part of the model.
    """
    wrapper = cfg.get('optim_wrapper')
    if not wrapper:
        raise UserError(f'--precision {precision}: the config has no optim_wrapper')
    _refuse_several_optimizers(wrapper, f'--precision {precision}')
    for name in ('loss_scale', 'dtype') if precision != 'fp16' else ('dtype',):
        wrapper.pop(name, None)
    if kind_of(wrapper) not in ('', 'OptimWrapper', 'AmpOptimWrapper'):
        wrapper.precision = precision
        return
    wrapper.type = 'OptimWrapper' if precision == 'fp32' else 'AmpOptimWrapper'
    if precision != 'fp32':
        wrapper.dtype = {'fp16': 'float16', 'bf16': 'bfloat16'}[precision]


def set_tta(cfg: Config) -> None:
    """Let predictions be the mean over several views of an image.

    A model with one head per task averages with the mirrored image, task by task, unless the config has a ``tta_model``
    that is made for several tasks. Every other model is wrapped in the ``tta_model`` of the config, with its
    ``tta_pipeline``, as MMSegmentation's ``--tta`` does.

    Raises:
        UserError: If that would be needed, but is not there.
    """
    wrapper, pipeline = cfg.get('tta_model'), cfg.get('tta_pipeline')
    one_task = kind_of(wrapper) == 'SegTTAModel'
    if cfg.model.get('heads') and (not wrapper or one_task):
        cfg.model.test_cfg = {**(cfg.model.get('test_cfg') or {}), 'flip_tta': True}
        return
    missing = [name for name in ('tta_model', 'tta_pipeline') if not cfg.get(name)]
    if missing:
        raise UserError(
            f'--tta: the config has no {" and no ".join(missing)}; inherit them from MMSegmentation '
            "(tta_model=dict(type='SegTTAModel') and the tta_pipeline of its dataset), or leave --tta out"
        )
    bases = {base.__name__ for kind in classes_named(cfg.model.get('type')) for base in kind.__mro__}
    if one_task and 'DepthEstimator' in bases:
        raise UserError(
            f'--tta: {wrapper.type} averages scores of classes, and {cfg.model.type} predicts depth. Set tta_model to '
            'a class that averages depth, or leave --tta out'
        )
    for place, dataset in leaf_datasets(cfg):
        if place.startswith('test_dataloader'):
            dataset['pipeline'] = pipeline
    cfg.model = {**wrapper, 'module': cfg.model}


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
    for part in (cfg.get('optim_wrapper'), *(cfg.get('custom_hooks') or [])):
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
