"""What the ranks of test_two_ranks.py run: existing models under DDP with settings that its reducer is known for."""

from __future__ import annotations

import torch
from mmengine.model import MMDistributedDataParallel

from tests.engine.two_ranks import work

from .parts import build, train
from .tiny import METHODS, MMSEG

SETTINGS = {
    'plain': dict(broadcast_buffers=False),
    'broadcast_buffers': dict(broadcast_buffers=True),
    'find_unused_parameters': dict(broadcast_buffers=False, find_unused_parameters=True),
    'static_graph': dict(broadcast_buffers=False, static_graph=True),
}


def state_after(name, method, rank, settings, iterations):
    """Weights and buffers after some iterations on batches that differ between the ranks."""
    model, wrapper, batches = build(name, method, wrap=lambda model: MMDistributedDataParallel(model, **settings))
    torch.manual_seed(rank)
    train(model, wrapper, batches[rank::2], iterations)
    return dict(model.module.state_dict())


def job(rank):
    found = {}
    for setting, options in SETTINGS.items():
        for method in (None, 'gd', 'stgu'):
            found[setting, method] = state_after('fcn', method, rank, options, 3)
    for name in (*MMSEG, 'digits'):
        for method in METHODS if name == 'digits' else ('gd', 'cagrad'):
            found[name, method] = state_after(name, method, rank, SETTINGS['plain'], 2)
        found[name, None] = state_after(name, None, rank, SETTINGS['plain'], 2)
    return found


if __name__ == '__main__':
    work(job)
