"""Whether heads, metrics and pictures are about the same tasks: asked before a run, not at its first validation."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
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


def named_metrics(runner: Any) -> Iterator[tuple[str, str, str | None]]:
    """The metrics that hooks and schedules wait for: the argument that says so, the name, and the rule for the best."""
    schedules = runner.param_schedulers or ()
    each = schedules.values() if isinstance(schedules, Mapping) else [schedules]
    for user in itertools.chain(runner.hooks, *each):
        for argument in ('save_best', 'monitor'):
            names = getattr(user, argument, None)
            names = [names] if isinstance(names, str) else names or ()
            rules = getattr(user, 'rules', None) or [getattr(user, 'rule', None)] * len(names)
            for name, rule in zip(names, rules):
                if name != 'auto':
                    yield f'{type(user).__name__}: {argument}', name, rule


def check_named_metrics(runner: Any, metrics: Mapping[str, bool | None]) -> None:
    """Refuse hooks and schedules that wait for a metric that no validation computes, or take the worst for best.

    Args:
        runner: It has the hooks and schedules.
        metrics: What the validation computes, and whether more of it is better, as far as that is known.

    Raises:
        UserError: See above.
    """
    for place, name, rule in named_metrics(runner):
        if name not in metrics:
            raise UserError(f'{place}={name!r}, but the validation computes {", ".join(metrics)}')
        right = {True: 'greater', False: 'less'}.get(metrics[name], rule)
        if rule is not None and rule != right:
            raise UserError(f'{place}={name!r} has rule={rule!r}, which prefers the worse: set rule={right!r}')


def computed_metrics(evaluator: Any) -> dict[str, bool | None] | None:
    """What an evaluator will compute, and whether more is better, if its metrics are of a kind that tells."""
    if not all(isinstance(metric, DenseMetric) for metric in evaluator.metrics):
        return None
    found = {f'{m.prefix}/{name}': m.describe(name)[1] for m in evaluator.metrics for name in m.combine(None)}
    return found if getattr(evaluator, 'baselines', None) is None else {**found, 'delta_m': True}


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
            metrics = computed_metrics(runner._val_loop.evaluator)
            if metrics is not None:
                check_named_metrics(runner, metrics)
            check_first_size(model, runner._val_loop.dataloader.dataset)
        warning = broken_cover(runner.cfg.get('train_dataloader'), get_world_size())
        if warning:
            runner.logger.warning(warning)
