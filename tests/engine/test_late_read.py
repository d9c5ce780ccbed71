"""Losses are read after the backward, together with what the gradients are found to be; nothing else changes by it."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch.optim import Adam

from mtl_plugins.engine.optim_wrappers import (
    AdaTaskOptimWrapper,
    GradientAggregationOptimWrapper,
    MultiTaskOptimWrapper,
    SelectiveTaskGroupOptimWrapper,
)
from mtl_plugins.engine.optim_wrappers.late_read import LateRead
from mtl_plugins.engine.optimizers import AdaTask

from .toy import TASKS, flat, make_model, toy_batch


class ReadsFirst(LateRead):
    def begins(self, *args):
        return False


def absent(batch):
    batch['targets']['b'].fill_(float('nan'))


def infinite(batch):
    batch['targets']['b'].fill_(float('inf'))


def nothing_left(batch):
    for target in batch['targets'].values():
        target.fill_(float('nan'))


def large(batch):
    batch['targets']['b'].mul_(1e15)  # the loss is finite, the squares of its gradient are not


WRAPPERS = {
    'gd': lambda p: MultiTaskOptimWrapper(Adam(p, 0.01)),
    'stgu': lambda p: SelectiveTaskGroupOptimWrapper(Adam(p, 0.01), warmup_iters=2, regroup_interval=1, seed=0),
    'weighted': lambda p: MultiTaskOptimWrapper(Adam(p, 0.01), weighting=dict(type='RLW'), seed=0),
    'learned': lambda p: MultiTaskOptimWrapper(Adam(p, 0.01), weighting=dict(type='UncertaintyWeighting')),
    'rows': lambda p: GradientAggregationOptimWrapper(Adam(p, 0.01), dict(type='PCGrad'), seed=0),
    'weighted rows': lambda p: GradientAggregationOptimWrapper(
        Adam(p, 0.01), dict(type='IMTLG'), weighting=dict(type='IMTLL')
    ),
    'interval': lambda p: GradientAggregationOptimWrapper(Adam(p, 0.01), dict(type='MGDA'), interval=2, seed=0),
    'ada_task': lambda p: AdaTaskOptimWrapper(AdaTask(p, lr=0.01)),
}  # fmt: skip


@pytest.mark.parametrize('spoil', [None, absent, infinite, nothing_left, large])
@pytest.mark.parametrize('kind', WRAPPERS)
def test_equal_to_reading_first(kind, spoil):
    found = []
    for late in (LateRead(), ReadsFirst()):
        model = make_model(dropout=0.3, batch_norm=True)
        wrapper = WRAPPERS[kind](model.parameters())
        wrapper.late = late
        logs = []
        for step in range(6):
            batch = toy_batch(step)
            if step == 3 and spoil is not None:
                spoil(batch)
            logs.append({name: float(value) for name, value in model.train_step(batch, wrapper).items()})
        found.append((flat(model), list(model.buffers()), wrapper.guard.total, repr(logs), wrapper.state_dict()['mtl']))
    (weights, buffers, total, logs, state), (weights_first, buffers_first, total_first, logs_first, state_first) = found
    assert torch.equal(weights, weights_first)
    assert all(map(torch.equal, buffers, buffers_first))
    assert total == total_first == ({} if spoil in (None, absent, nothing_left, large) else {'b': 1})
    assert logs == logs_first
    assert repr(state) == repr(state_first)


def test_what_the_log_is_given_is_the_loss():
    """The numbers of the log come with the step's own read; a wrapper of MMEngine hands out the same ones."""
    logs = []
    for wrap in (MultiTaskOptimWrapper, OptimWrapper):
        model = make_model(report_valid=False)
        wrapper = wrap(torch.optim.SGD(model.parameters(), 0.1))
        logs.append([model.train_step(toy_batch(step), wrapper) for step in range(3)])
    for ours, plain in zip(*logs):
        assert {name: value.item() for name, value in ours.items()} == {k: v.item() for k, v in plain.items()}
        assert list(ours) == ['loss', *(f'{task}.loss' for task in TASKS)]
