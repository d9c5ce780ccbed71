"""Builds any method of the catalogue on the toy model; what the generated tests and their second process share."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from mtl_plugins.engine.catalogue import list_methods
from mtl_plugins.engine.optimizers import AdaTask
from mtl_plugins.registry import OPTIM_WRAPPERS

from .toy import TASKS, toy_batch

FOLDER = Path(__file__).parents[2] / 'configs' / '_base_' / 'methods'
ROWS = {row.key: row for row in list_methods()}
QUICK = {
    'stgu': dict(warmup_iters=2, regroup_interval=2, probe_interval=1),
    'stgu_released': dict(warmup_iters=2),
    'phases': dict(every=4, total=8),
    'son_goku': dict(regroup_interval=2, grouper=dict(type='GraphColouring', tau_end=0.01, wait=1, anneal=1)),
    'stch': dict(weighting=dict(type='STCH', warmup=1)),
}
"""Settings under which a few steps show all that a method does."""

CASES = {
    'unequal valid': [dict(), dict(invalid=0.7)],
    'task missing on one rank': [dict(), dict(tasks=('a', 'c'), invalid=0.3)],
}


def read_fragment(key):
    """The ``optim_wrapper`` of a method's config fragment."""
    settings = {}
    exec((FOLDER / f'{key}.py').read_text(), settings)
    return settings['optim_wrapper']


def build(fragment, model, lr=0.1, **kwargs):
    """The wrapper of a fragment, or of a key, with SGD where the method brings no optimizer of its own."""
    cfg = {'seed': 0, **copy.deepcopy(fragment if isinstance(fragment, dict) else read_fragment(fragment)), **kwargs}
    if not isinstance(fragment, dict):
        cfg.update(QUICK.get(fragment, {}))
    own = cfg.pop('optimizer', None)
    if own is None:
        cfg['optimizer'] = torch.optim.SGD(model.parameters(), lr=lr)
    else:
        assert own.pop('type') == 'mtl_plugins.AdaTask'
        cfg['optimizer'] = AdaTask(model.parameters(), lr=0.1 * lr, **own)
    wrapper = OPTIM_WRAPPERS.build(cfg)
    wrapper.weighting.set_epoch_length(2)
    return wrapper


def train(model, wrapper, numbers, **batch):
    """A few steps; the global random state plays no part."""
    for number in numbers:
        torch.manual_seed(number)
        model.train_step(toy_batch(number, **batch), wrapper)


def record_gradients(wrapper):
    """Keep the gradient that reaches the optimizer: one list of tensors per step."""
    seen = []
    step = wrapper.step

    def watched(**kwargs):
        scale = wrapper.precision.loss_scale
        seen.append([None if p.grad is None else p.grad / scale for p in wrapper._trainable()])
        return step(**kwargs)

    wrapper.step = watched  # which strategies within it call, too
    return seen


__all__ = ['CASES', 'QUICK', 'ROWS', 'TASKS', 'build', 'read_fragment', 'record_gradients', 'train']
