"""What the two ranks of test_zero.py run: a state of the optimizer that is spread, saved on one and resumed on both."""

from __future__ import annotations

import torch
import torch.distributed as dist
from mmengine.optim import ZeroRedundancyOptimizer as Wrapped
from torch.distributed.optim import ZeroRedundancyOptimizer

from mtl_plugins.registry import OPTIM_WRAPPERS

from .all_methods import read_fragment
from .toy import TASKS, flat, make_model, toy_batch

METHODS = ('gd', 'stgu', 'cagrad', 'moco')
WAYS = ('whole', 'torch', 'mmengine')


def make(key, way):
    model = make_model()
    if way == 'whole':
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    elif way == 'torch':
        optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=1e-2)
    else:
        optimizer = Wrapped(model.parameters(), 'AdamW', lr=1e-2)
    wrapper = OPTIM_WRAPPERS.build(dict(read_fragment(key), optimizer=optimizer, tasks=TASKS, seed=0))
    wrapper.saves_are_announced = True
    return model, wrapper


def steps(model, wrapper, rank, numbers):
    for number in numbers:
        torch.manual_seed(number)
        model.train_step(toy_batch(rank + 10 * number), wrapper)


def refused(wrapper):
    try:
        wrapper.state_dict()
    except RuntimeError as error:
        return str(error)
    return ''


def run(key, way, rank, folder):
    model, wrapper = make(key, way)
    steps(model, wrapper, rank, [0, 1])
    early = refused(wrapper) if way != 'whole' else ''
    wrapper.gather_state()
    file = folder / f'{key}-{way}.pt'
    if rank == 0:
        torch.save(dict(model=model.state_dict(), wrapper=wrapper.state_dict()), file)
    dist.barrier()
    saved = torch.load(file, weights_only=True)
    moments = {index: each['exp_avg'].clone() for index, each in sorted(saved['wrapper']['state'].items())}
    steps(model, wrapper, rank, [2, 3])

    again, resumed = make(key, way)
    again.load_state_dict(saved['model'])
    resumed.load_state_dict(saved['wrapper'])
    steps(again, resumed, rank, [2, 3])
    held = wrapper.optimizer.optim.state if way != 'whole' else wrapper.optimizer.state
    return dict(
        end=flat(model),
        resumed=flat(again),
        early=early,
        moments=moments,
        held=sum(each['exp_avg'].numel() for each in held.values()),
    )


def job(rank, folder):
    return {(key, way): run(key, way, rank, folder) for key in METHODS for way in WAYS}
