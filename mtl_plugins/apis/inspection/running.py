"""The rest of a run: validation, hooks and schedules."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper
from mmengine.registry import EVALUATOR, HOOKS, PARAM_SCHEDULERS, VISUALIZERS
from torch import nn
from torch.utils.data import DataLoader

from mtl_plugins.apis.task_checks import check_hooks, check_tasks
from mtl_plugins.engine.hooks import SafeCheckpointHook

from .report import Step


def build_evaluator(evaluator: Any) -> Evaluator:
    """The evaluator of a config, as MMEngine's Runner builds it."""
    evaluator = copy.deepcopy(evaluator)
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        return EVALUATOR.build({'type': 'Evaluator', **evaluator})
    return Evaluator(evaluator)


def check_evaluator(step: Step, model: nn.Module, dataset: Any, evaluator: Any, place: str) -> Evaluator:
    """Build an evaluator for a data set, and compare its tasks with those of the model.

    Raises:
        UserError: If it measures what the model does not predict.
    """
    judge = build_evaluator(evaluator)
    judge.dataset_meta = getattr(dataset, 'metainfo', None) or {}
    for note in check_tasks(model, judge, place):
        step.note(note)
    return judge


def show_validation(step: Step, model: nn.Module, loader: DataLoader, evaluator: Any) -> None:
    """Predict one batch and hand it to the metrics."""
    judge = check_evaluator(step, model, loader.dataset, evaluator, 'val_evaluator')
    if hasattr(model, 'eval'):
        model.eval()
    batch = next(iter(loader))
    with torch.no_grad():
        outputs = model.val_step(batch)
    judge.process(data_samples=outputs, data_batch=batch)
    names = ', '.join(type(metric).__name__ for metric in judge.metrics)
    step.summary = f'{len(outputs)} images predicted and measured by {names}'
    baselines = getattr(judge, 'baselines', None)
    if hasattr(judge, 'baselines'):
        step.say(f'delta_m against {len(baselines)} single-task baselines' if baselines else 'no baselines, no delta_m')
    missing = [task for task in getattr(judge, 'tasks', ()) if baselines and task not in baselines]
    if missing:
        step.note(f'no baseline for {", ".join(missing)}: delta_m will be nan')


def show_hooks(step: Step, cfg: Config, model: nn.Module, wrapper: OptimWrapper, dataset: Any) -> None:
    """Build all hooks without running them.

    Raises:
        UserError: If they do not fit the tasks or the accumulation of gradients.
    """
    if cfg.get('visualizer'):
        # Some hooks look for the visualizer. Backends are left out: some connect to a server.
        VISUALIZERS.build({**cfg.visualizer, 'name': f'doctor-{uuid.uuid4().hex[:8]}', 'vis_backends': None})
    configs = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    hooks = [HOOKS.build(dict(hook)) for hook in configs if hook]
    check_hooks(model, hooks, getattr(dataset, 'metainfo', None))
    for hook in hooks:
        if isinstance(hook, SafeCheckpointHook):
            hook.check_interval(wrapper)
    step.summary = f'{len(hooks)}'
    step.say(', '.join(type(hook).__name__ for hook in hooks))


def show_schedules(step: Step, cfg: Config, wrapper: OptimWrapper, epoch_length: int) -> None:
    """Build the schedulers and say what the learning rate starts with."""
    entries = cfg.get('param_scheduler') or []
    entries = entries if isinstance(entries, (list, tuple)) else [entries]
    optimizer = getattr(wrapper, 'optimizer', None)
    if not isinstance(optimizer, torch.optim.Optimizer):
        step.summary = 'not looked at: there are several optimizers'
        return
    target = copy.deepcopy(optimizer.param_groups[0].get('lr'))
    for entry in entries:
        entry = dict(entry)
        if entry.pop('convert_to_iter_based', False):
            kind = PARAM_SCHEDULERS.get(entry.pop('type'))
            kind.build_iter_from_epoch(**entry, optimizer=wrapper, epoch_length=epoch_length)
        else:
            PARAM_SCHEDULERS.build(entry, default_args=dict(optimizer=wrapper))
    step.summary = ', '.join(str(entry.get('type')) for entry in entries) or 'constant learning rate'
    step.say(f'the learning rate starts at {optimizer.param_groups[0]["lr"]:.3g} (configured: {target:.3g})')
