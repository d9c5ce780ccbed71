"""What the run tells a loss weighting: the length of an epoch, and how good the tasks are."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper

from mtl_plugins.engine.hooks import EpochLengthHook, TaskKPIHook
from mtl_plugins.errors import UserError
from mtl_plugins.registry import OPTIM_WRAPPERS

from .all_methods import build, read_fragment
from .toy import TASKS, make_model, toy_batch


def runner(weighting, hooks=(), images=10, batch_size=4, **kwargs):
    wrapper = build('gd', make_model(), weighting=weighting, tasks=TASKS, **kwargs)
    loader = SimpleNamespace(dataset=range(images), batch_size=batch_size)
    return SimpleNamespace(optim_wrapper=wrapper, train_dataloader=loader, hooks=list(hooks))


@pytest.mark.parametrize(('accumulative_counts', 'expected'), [(1, 3), (2, 2)])
def test_length_of_an_epoch(accumulative_counts, expected):
    run = runner(dict(type='DWA'), accumulative_counts=accumulative_counts)
    EpochLengthHook().before_train(run)
    assert run.optim_wrapper.weighting.epoch_length == expected


def test_an_epoch_is_counted_in_batches_of_all_processes(monkeypatch):
    run = runner(dict(type='DWA'))
    monkeypatch.setattr('mtl_plugins.engine.running.get_world_size', lambda: 2)
    EpochLengthHook().before_train(run)
    assert run.optim_wrapper.weighting.epoch_length == 2
    run.train_dataloader.batch_size = None  # a loader with a batch sampler of its own kind
    EpochLengthHook().before_train(run)
    assert run.optim_wrapper.weighting.epoch_length == 5


def test_who_has_no_weighting_or_follows_no_metric_is_left_alone():
    plain = SimpleNamespace(optim_wrapper=OptimWrapper(torch.optim.SGD(make_model().parameters(), lr=0.1)))
    hook = TaskKPIHook(dict(a='a/mIoU'))
    EpochLengthHook().before_train(plain)
    hook.after_val_epoch(plain, {})
    hook.after_val_epoch(runner(dict(type='DWA')), {})
    hook.after_val_epoch(runner(dict(type='DTP', kpi='loss')), {})
    with pytest.raises(KeyError, match=r"no metric \['a/mIoU'\]; there are \[\]"):
        hook.after_val_epoch(runner(dict(type='DTP', kpi='metric')), None)
    with pytest.raises(ValueError, match=r'TaskKPIHook\.kpis must name a metric per task'):
        TaskKPIHook({})


def test_metrics_that_nobody_brings_are_missed():
    with pytest.raises(ValueError, match=r"TaskKPIHook.*or use weighting\.kpi='loss'"):
        EpochLengthHook().before_train(runner(dict(type='DTP', kpi='metric')))
    EpochLengthHook().before_train(runner(dict(type='DTP', kpi='loss')))


def test_metrics_reach_the_weighting():
    hook = TaskKPIHook(dict(a='a/mIoU', c='c/delta1'))
    run = runner(dict(type='DTP', kpi='metric', alpha=1.0), [hook])
    EpochLengthHook().before_train(run)
    hook.after_val_epoch(run, {'a/mIoU': 50.0, 'c/delta1': float('nan')})
    weights = run.optim_wrapper.weighting.weights(torch.ones(3), torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(weights, torch.tensor([0.5 * 0.693147, 1.0, 1.0]))
    with pytest.raises(KeyError, match=r"no metric \['c/delta1'\]"):
        hook.after_val_epoch(run, {'a/mIoU': 50.0})


@pytest.mark.parametrize('key', ['dwa', 'stch'])
def test_a_loop_that_tells_no_length_of_an_epoch_is_told_so(key):
    """There is no Runner here that the wrapper could ask."""
    model = make_model()
    wrapper = OPTIM_WRAPPERS.build(dict(read_fragment(key), optimizer=torch.optim.SGD(model.parameters(), lr=0.1)))
    with pytest.raises(UserError, match=r'averages over epochs.*call set_epoch_length\(iterations\) before training'):
        model.train_step(toy_batch(0), wrapper)
