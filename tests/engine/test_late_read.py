"""Losses are read after the backward, together with what the gradients are found to be; nothing else changes by it."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch.optim import Adam

from mtl_plugins.engine.optim_wrappers import (
    AdaTaskOptimWrapper,
    GradientAggregationOptimWrapper,
    MultiTaskOptimWrapper,
    ReleasedTaskGroupOptimWrapper,
    SelectiveTaskGroupOptimWrapper,
    late_read,
)
from mtl_plugins.engine.optim_wrappers.late_read import LateRead
from mtl_plugins.engine.optimizers import AdaTask

from .toy import TASKS, flat, make_model, toy_batch


class ReadsFirst(LateRead):
    def begins(self, *args):
        return False


class Watched(LateRead):
    def __init__(self):
        super().__init__()
        self.begun = []

    def begins(self, *args):
        self.begun.append(super().begins(*args))
        return self.begun[-1]


def absent(batch, model):
    batch['targets']['b'].fill_(float('nan'))


def infinite(batch, model):
    batch['targets']['b'].fill_(float('inf'))


def nothing_left(batch, model):
    for target in batch['targets'].values():
        target.fill_(float('nan'))


def large(batch, model):
    batch['targets']['b'].mul_(1e15)  # the loss is finite, the squares of its gradient are not


def steep(batch, model):
    """The loss is finite, its gradient is not."""
    handle = model.heads['b'][0].weight.register_hook(lambda gradient: handle.remove() or gradient * float('nan'))


WRAPPERS = {
    'gd': lambda p: MultiTaskOptimWrapper(Adam(p, 0.01)),
    'stgu': lambda p: SelectiveTaskGroupOptimWrapper(Adam(p, 0.01), warmup_iters=2, regroup_interval=1, seed=0),
    'stgu_released': lambda p: ReleasedTaskGroupOptimWrapper(Adam(p, 0.01), warmup_iters=2, bn_stats='first', seed=0),
    'first as it moves statistics': lambda p: MultiTaskOptimWrapper(Adam(p, 0.01), bn_stats='every'),
    'weighted': lambda p: MultiTaskOptimWrapper(Adam(p, 0.01), weighting=dict(type='RLW'), seed=0),
    'learned': lambda p: MultiTaskOptimWrapper(Adam(p, 0.01), weighting=dict(type='UncertaintyWeighting')),
    'follows the losses': lambda p: MultiTaskOptimWrapper(Adam(p, 0.01), weighting=dict(type='GLS')),
    'rows': lambda p: GradientAggregationOptimWrapper(Adam(p, 0.01), dict(type='PCGrad'), seed=0),
    'rows over their losses': lambda p: GradientAggregationOptimWrapper(
        Adam(p, 0.01), dict(type='PCGrad'), normalise='loss', weighting=dict(type='RLW'), seed=0
    ),
    'weighted rows': lambda p: GradientAggregationOptimWrapper(
        Adam(p, 0.01), dict(type='IMTLG'), weighting=dict(type='IMTLL')
    ),
    'rows that follow the losses': lambda p: GradientAggregationOptimWrapper(
        Adam(p, 0.01), dict(type='Sum'), weighting=dict(type='GLS')
    ),
    'interval': lambda p: GradientAggregationOptimWrapper(Adam(p, 0.01), dict(type='MGDA'), interval=2, seed=0),
    'ada_task': lambda p: AdaTaskOptimWrapper(AdaTask(p, lr=0.01)),
}  # fmt: skip


SPOILT = [None, None, absent, infinite, nothing_left, steep, None, large, None]


@pytest.mark.parametrize('kind', WRAPPERS)
def test_equal_to_reading_first(kind, monkeypatch):
    monkeypatch.setattr(late_read, 'PATIENCE', 0)  # every batch but the first is differentiated before the read
    found = []
    for late in (watched := Watched(), ReadsFirst()):
        model = make_model(dropout=0.3, batch_norm=True)
        wrapper = WRAPPERS[kind](model.parameters())
        wrapper.late = late
        steps, weights_of, log_step = [], [], wrapper._log
        wrapper._log = lambda batch, log=log_step, seen=weights_of: log(batch) or seen.append(repr(batch.weights))
        for step, spoil in enumerate(SPOILT):
            batch = toy_batch(step)
            if spoil is not None:
                spoil(batch, model)
            log = {name: float(value) for name, value in model.train_step(batch, wrapper).items()}
            steps.append((repr(log), torch.cat([flat(model), *(b.reshape(-1) for b in model.buffers())])))
        found.append((steps, wrapper.guard.total, wrapper.state_dict()['mtl'], weights_of))
        assert sum(wrapper.guard.total.values()) == 2
    for (log, weights), (log_first, weights_first) in zip(found[0][0], found[1][0], strict=True):
        assert log == log_first
        assert torch.equal(weights, weights_first)
    assert repr(found[0][1:]) == repr(found[1][1:])
    assert any(watched.begun) == ('follow' not in kind and 'first' not in kind)


def test_a_wrong_guess_brings_no_gradient_to_a_head_that_has_had_none(monkeypatch):
    """Under the released program, whose optimizer steps each head that has had one."""
    monkeypatch.setattr(late_read, 'PATIENCE', 0)
    model = make_model()
    wrapper = ReleasedTaskGroupOptimWrapper(Adam(model.parameters(), 0.01, weight_decay=0.1), seed=0)
    wrapper.late = Watched()
    before = flat(model.heads['b'])
    for step in range(3):
        absent(batch := toy_batch(step), model)
        model.train_step(batch, wrapper)
    assert any(wrapper.late.begun)
    assert torch.equal(before, flat(model.heads['b']))


def test_after_a_wrong_guess_some_batches_are_read_first(monkeypatch):
    monkeypatch.setattr(late_read, 'PATIENCE', 2)
    model = make_model()
    wrapper = WRAPPERS['gd'](model.parameters())
    wrapper.late = Watched()
    for step in range(7):
        batch = toy_batch(step)
        if step == 2:
            absent(batch, model)
        model.train_step(batch, wrapper)
    assert wrapper.late.begun == [False, True, True, False, False, True, True]


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
