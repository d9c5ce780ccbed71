"""What decides the outcome of a training, and where two trainings differ in it."""

from __future__ import annotations

import json
from typing import Any

from mmengine.config import Config

SETTINGS = ('model', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'train_cfg', 'optim_wrapper')
SETTINGS += ('param_scheduler', 'auto_scale_lr', 'load_from', 'randomness')
"""Entries of a config in which two runs of the same training must agree."""
WORKERS = ('num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory', 'start_method', 'cache_dir')
"""What may change between two starts of a run, at any depth: no number depends on it."""


def decisive_settings(cfg: Config) -> dict[str, Any]:
    """The part of a config that decides the outcome of a training, as JSON.

    Our own hooks observe and protect; those of others, such as an EMAHook, may change the weights.
    """
    content = cfg.to_dict()
    settings = {name: content.get(name) for name in SETTINGS}
    hooks = content.get('custom_hooks') or []
    settings['custom_hooks'] = [hook for hook in hooks if not str(hook.get('type')).startswith('mtl_plugins.')]
    return json.loads(json.dumps(settings, default=str))


def without_workers(settings: Any) -> Any:
    """A JSON structure without :data:`WORKERS`."""
    if isinstance(settings, dict):
        return {key: without_workers(value) for key, value in settings.items() if key not in WORKERS}
    return [without_workers(value) for value in settings] if isinstance(settings, list) else settings


def first_difference(old: Any, new: Any, place: str = '') -> str:
    """Where two JSON structures differ first, ``'optimizer.lr: 0.1 -> 0.2'``; empty if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(key, old.get(key), new.get(key)) for key in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = list(zip(range(len(old)), old, new))
    else:
        return '' if old == new else f'{place}: {_short(old)} -> {_short(new)}'
    found = (first_difference(a, b, f'{place}.{key}' if place else str(key)) for key, a, b in pairs)
    return next(filter(None, found), '')


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f'{text[:37]}...'
