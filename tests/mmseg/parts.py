"""Model, optimizer wrapper and batches of a config, without a Runner around them."""

from __future__ import annotations

import copy
import functools
import uuid

import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from mtl_plugins.config import set_method

from .tiny import METHODS, MMSEG, small_config

TASKS = {**dict.fromkeys(MMSEG, ('decode', 'aux')), 'digits': ('loss_digit', 'loss_parity')}


@functools.cache
def _cached(name):
    """The config with the wrapper of each method, and two batches; reading configs takes longer than training."""
    cfg = small_config(name, '.')
    wrappers = {None: cfg.optim_wrapper}
    for method in METHODS:
        other = copy.deepcopy(cfg)
        set_method(other, method)
        if method == 'stgu':
            other.optim_wrapper.update(warmup_iters=1, regroup_interval=1, probe_interval=1)
        wrappers[method] = other.optim_wrapper
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        loader = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
        return cfg, wrappers, [next(loader) for _ in range(4)]


def build(name, method=None, *, scope=None, change=None, wrap=None, **options):
    """A new model with equal first weights, its wrapper, and the batches.

    Args:
        name: Key of ``tiny.PATHS``.
        method: Key of the catalogue; None leaves the wrapper of the config.
        scope: Default scope, by default that of the config.
        change: Changes the model's config in place.
        wrap: Applied to the model, for DDP.
        options: Further arguments of the optimizer wrapper.
    """
    cfg, wrappers, batches = _cached(name)
    settings = copy.deepcopy(cfg.model)
    if change:
        change(settings)
    with DefaultScope.overwrite_default_scope(scope or cfg.get('default_scope')):
        torch.manual_seed(0)
        model = MODELS.build(settings).train()
        # MMEngine writes to the file of the latest logger, which may be that of an earlier test, and closed.
        MMLogger.get_instance(f'parts-{uuid.uuid4().hex}')
        model.init_weights()
        model = wrap(model) if wrap else model
        wrapper = build_optim_wrapper(model, copy.deepcopy({**wrappers[method], **options}))
    return model, wrapper, copy.deepcopy(batches)


def train(model, wrapper, batches, iterations=2):
    """As the Runner does; returns the logged losses."""
    torch.manual_seed(1)
    wrapper.initialize_count_status(model, 0, iterations)
    return [model.train_step(copy.deepcopy(batches[i % len(batches)]), wrapper) for i in range(iterations)]
