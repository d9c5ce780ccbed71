"""What decides the outcome of a training, and where two trainings differ in it."""

import inspect
import json
from typing import Any

from mmengine.config import Config

from mtl_plugins.config.hints import classes_named

SETTINGS = ('model', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'train_cfg', 'optim_wrapper')
SETTINGS += ('param_scheduler', 'auto_scale_lr', 'load_from', 'randomness')
"""Entries of a config in which two runs of the same training must agree."""
MEANS = ('num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory', 'start_method', 'cache_dir')
MEANS += ('fused', 'foreach')  # of torch's optimizers
"""What may change between two starts of a run, at any depth: how a number is made, not which (up to rounding)."""
_NOT_AS_LEFT_OUT = ('lr', 'weight_decay', 'seed')
"""What means something else when it is given, even with the default of its class: ``paramwise_cfg`` multiplies it, or
the Runner has a value for what is left out."""
_OBSERVING = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint', 'visualization')
"""MMEngine's default hooks, and MMSegmentation's."""


def decisive_settings(cfg: Config) -> dict[str, Any]:
    """The part of a config that decides the outcome of a training, as JSON.

    Our own hooks observe, protect, or have the same computed faster; those of others, such as an EMAHook, may change
    the weights.
    """
    content = cfg.to_dict()
    settings = {name: content.get(name) for name in SETTINGS}
    hooks = [*(content.get('custom_hooks') or [])]
    hooks += [hook for name, hook in (content.get('default_hooks') or {}).items() if hook and name not in _OBSERVING]
    settings['custom_hooks'] = [hook for hook in hooks if not str(hook.get('type')).startswith('mtl_plugins.')]
    return _as_json(settings)


def comparable(settings: Any) -> Any:
    """A JSON structure without :data:`MEANS`, and without what is as if it were left out.

    That is what has the default of its class, and None where no class is known to take something else.
    """
    if isinstance(settings, list):
        return [comparable(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    defaults = _defaults(settings.get('type'))
    kept = [name for name, value in settings.items() if name in _NOT_AS_LEFT_OUT or value != defaults.get(name)]
    return {name: comparable(settings[name]) for name in kept if name not in MEANS}


def _defaults(kind: Any) -> dict[str, Any]:
    """The defaults, as JSON, on which all classes agree that a ``type`` may mean."""
    found = [
        {name: _as_json(one.default) for name, one in inspect.signature(cls.__init__).parameters.items()}
        for cls in classes_named(kind)
    ]
    first = found[0] if found else {}
    return {name: value for name, value in first.items() if all(each.get(name) == value for each in found)}


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


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
