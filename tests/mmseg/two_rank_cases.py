"""What the ranks of test_two_ranks.py run: existing models under DDP with settings that its reducer is known for."""

from __future__ import annotations

import torch
from mmengine.model import MMDistributedDataParallel

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


EVERYDAY = (*SETTINGS, 'segformer', 'digits')
LATER = tuple(name for name in MMSEG if name not in EVERYDAY)


def job(rank, *cases):
    found = {}
    for case in cases:
        model, iterations = (case, 2) if case in MMSEG or case == 'digits' else ('fcn', 3)
        others = METHODS if case == 'digits' else ('gd', 'cagrad') if case in MMSEG else ('gd', 'stgu')
        for method in (None, *others):
            found[case, method] = state_after(model, method, rank, SETTINGS.get(case, SETTINGS['plain']), iterations)
    return found
