"""Whether heads, metrics and pictures are about the same tasks: asked before a run, not at its first validation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop
from torch import Tensor

from mtl_plugins.engine.optim_wrappers import StepOptimWrapper
from mtl_plugins.engine.parameter_settings import warn_of_unused_settings
from mtl_plugins.engine.running import check_data
from mtl_plugins.engine.step.guards import refuse_several_wrappers
from mtl_plugins.errors import UserError
from mtl_plugins.evaluation.metrics.base import DenseMetric
from mtl_plugins.runtime.hooks.rng_state import get_rng_state, set_rng_state

from .datasets import broken_cover


def check_tasks(model: Any, evaluator: Any, place: str) -> list[str]:
    """Compare what is predicted with what is measured.

    Args:
        model: Its ``tasks`` are what it predicts; a model without them is not examined.
        evaluator: Knows its dataset already.
        place: Where it stands in the config, for messages.

    Returns:
        What is no error: heads that are not measured.

    Raises:
        UserError: If a task is measured that the model does not predict.
    """
    heads = tuple(getattr(model, 'tasks', None) or ())
    measured = [task for task in (getattr(metric, 'task', None) for metric in evaluator.metrics) if task]
    judged = dict.fromkeys([*(getattr(evaluator, 'tasks', None) or ()), *measured])
    if not heads or not judged:
        return []
    without = [task for task in judged if task not in heads]
    if without:
        raise UserError(
            f'{place} measures {", ".join(without)}, but the model has heads for {", ".join(heads)} only. Leave it out '
            f'of {place} (tasks, metrics), or add it to model.heads'
        )
    silent = [task for task in heads if task not in judged]
    return [f'{place} measures nothing of {", ".join(silent)}'] if silent else []


def check_hooks(model: Any, hooks: Iterable[Any], dataset_meta: Mapping[str, Any] | None) -> None:
    """Refuse hooks that name tasks which neither the model nor the data have.

    Raises:
        UserError: See above.
    """
    known = {*(getattr(model, 'tasks', None) or ()), *((dataset_meta or {}).get('tasks') or ())}
    for hook in hooks:
        named = getattr(hook, 'tasks', None)
        unknown = [task for task in named if task not in known] if isinstance(named, list | tuple) else []
        if known and unknown:
            raise UserError(
                f'{type(hook).__name__}: tasks names {", ".join(map(str, unknown))}, but model and data have '
                f'{", ".join(sorted(known))}'
            )


def named_metrics(hooks: Iterable[Any]) -> dict[str, str]:
    """The metrics that hooks wait for: name -> the argument that says so."""
    found = {}
    for hook in hooks:
        for argument in ('save_best', 'monitor'):
            names = getattr(hook, argument, None)
            for name in [names] if isinstance(names, str) else names or ():
                found[name] = f'{type(hook).__name__}: {argument}'
    found.pop('auto', None)
    return found


def check_named_metrics(hooks: Iterable[Any], metrics: Iterable[str]) -> None:
    """Refuse hooks that wait for a metric which the validation does not compute.

    Raises:
        UserError: See above.
    """
    known = list(metrics)
    for name, place in named_metrics(hooks).items():
        if name not in known:
            raise UserError(f'{place}={name!r}, but the validation computes {", ".join(known)}')


def metric_names(evaluator: Any) -> list[str] | None:
    """What an evaluator will compute, if its metrics are of a kind that tells; else None."""
    if not all(isinstance(metric, DenseMetric) for metric in evaluator.metrics):
        return None
    names = [f'{metric.prefix}/{name}' for metric in evaluator.metrics for name in metric.combine(None)]
    return [*names, *['delta_m'] * (getattr(evaluator, 'baselines', None) is not None)]


def check_first_size(model: Any, dataset: Any) -> None:
    """Refuse a validation set whose first image comes to a backbone at a size that it cannot take.

    Args:
        model: Examined if its backbone has a ``check_size``, and its whole images go through it.
        dataset: Gives samples for the model's data preprocessor.

    Raises:
        UserError: See above.
    """
    check = getattr(getattr(model, 'backbone', None), 'check_size', None)
    sliding = (getattr(model, 'test_cfg', None) or {}).get('mode') == 'slide'
    if check is None or sliding or not len(dataset):
        return
    state = get_rng_state()
    try:
        batch = model.data_preprocessor(pseudo_collate([dataset[0]]), False)
    finally:
        set_rng_state(state)
    if not isinstance(batch['inputs'], Tensor):  # a preprocessor that stacks nothing
        return
    size = tuple(batch['inputs'].shape[-2:])
    try:
        check(size)
    except UserError as error:
        raise UserError(f'val_dataloader: its first image comes to the model at {size}: {error}') from error


class TaskCheckHook(Hook):
    """Makes these checks when a run has built its loops and has not begun."""

    priority = 'HIGHEST'

    def before_run(self, runner: Any) -> None:
        """Check the loops that this run has.

        Raises:
            UserError: See :func:`check_tasks`, :func:`check_hooks` and :func:`check_named_metrics`.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for place, loop in (('val_evaluator', runner._val_loop), ('test_evaluator', runner._test_loop)):
            if not isinstance(loop, BaseLoop) or not hasattr(loop, 'evaluator'):
                continue
            for note in check_tasks(model, loop.evaluator, place):
                runner.logger.log(logging.WARNING, note)
            check_hooks(model, runner.hooks, getattr(loop.dataloader.dataset, 'metainfo', None))
        refuse_several_wrappers(runner.optim_wrapper, runner.model)
        check_data()
        wrapper = runner.optim_wrapper  # a test builds none, and of several each has an optimizer
        optimizer = getattr(wrapper, 'optimizer', None) if isinstance(wrapper, OptimWrapper) else None
        if optimizer is not None and not isinstance(wrapper, StepOptimWrapper):
            warn_of_unused_settings(runner.cfg.get('optim_wrapper'), model, optimizer)
        if isinstance(runner._val_loop, BaseLoop) and hasattr(runner._val_loop, 'evaluator'):
            names = metric_names(runner._val_loop.evaluator)
            if names is not None:
                check_named_metrics(runner.hooks, names)
            check_first_size(model, runner._val_loop.dataloader.dataset)
        warning = broken_cover(runner.cfg.get('train_dataloader'), get_world_size())
        if warning:
            runner.logger.warning(warning)
