"""Set-ups that would give wrong per-task results are refused in plain words."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mtl_plugins.engine import MultiTaskOptimWrapper
from mtl_plugins.engine.step import silent_tasks
from mtl_plugins.engine.step.guards import bare_model
from mtl_plugins.engine.step.parameters import ParameterTable, ReentrantCheckpointError

from .all_methods import ROWS, build, train
from .toy import make_model, toy_batch


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize('name', ['FullyShardedDataParallel', 'MMDeepSpeedEngineWrapper', 'FSDPModule'])
def test_sharding_wrappers_are_refused(name):
    wrapper = type(name, (nn.Module,), {})()
    with pytest.raises(TypeError, match=f'{name} does not support. Use one process or DDP'):
        bare_model(wrapper)


def test_real_fsdp_class_is_recognised():
    from torch.distributed.fsdp import FullyShardedDataParallel

    with pytest.raises(TypeError, match='FullyShardedDataParallel'):
        bare_model(FullyShardedDataParallel.__new__(FullyShardedDataParallel))


def test_detect_anomalous_params_is_refused():
    model = make_model()
    model.detect_anomalous_params = True
    with pytest.raises(TypeError, match='detect_anomalous_params=True inspects the loss'):
        bare_model(model)


def test_compiled_train_step_is_refused():
    model = make_model()
    model.train_step = torch.compile(model.train_step, backend='eager')
    with pytest.raises(TypeError, match='compile the backbone instead'):
        bare_model(model)


def test_reentrant_checkpointing_is_refused_and_the_other_kind_works():
    def build(use_reentrant):
        model = make_model()
        inner = model.backbone.forward
        model.backbone.forward = lambda x: checkpoint(inner, x.requires_grad_(), use_reentrant=use_reentrant)
        return model

    model = build(True)
    with pytest.raises(ReentrantCheckpointError, match='re-entrant activation checkpointing'):
        model.train_step(toy_batch(0), MultiTaskOptimWrapper(sgd(model)))
    plain, recomputed = make_model(), build(False)
    for each in (plain, recomputed):
        each.train_step(toy_batch(0), MultiTaskOptimWrapper(sgd(each)))
    for p, q in zip(plain.parameters(), recomputed.parameters()):
        assert torch.equal(p, q)


def test_own_train_step_without_the_forward_is_explained():
    model = make_model()
    wrapper = MultiTaskOptimWrapper(sgd(model))
    with pytest.raises(RuntimeError, match=r'without a model\(..., mode="loss"\) forward inside optim_context'):
        wrapper.update_params(torch.ones(()))


def test_two_forwards_in_one_context_are_explained():
    model = make_model()
    wrapper = MultiTaskOptimWrapper(sgd(model))
    with wrapper.optim_context(model):
        model(**toy_batch(0), mode='loss')
        with pytest.raises(RuntimeError, match='ran mode="loss" twice'):
            model(**toy_batch(0), mode='loss')
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_parameters_are_told_apart_by_the_graph():
    model = make_model()
    model.extra = nn.Linear(2, 2)
    table = ParameterTable(model)
    losses = model(**toy_batch(0), mode='loss')
    table.observe({task: losses[f'{task}.loss'] for task in 'ab'})
    assert all(name.startswith('backbone') for name in table.shared())
    assert table.own('a') == ['heads.a.0.weight', 'heads.a.0.bias']
    assert {name.split('.')[0] + '.' + name.split('.')[1] for name in table.unused()} == {
        'heads.c', 'extra.weight', 'extra.bias',
    }  # fmt: skip
    assert table.users('backbone.0.weight') == {'a', 'b'}


def test_single_task_shares_all_it_uses():
    model = make_model(tasks=['a'])
    table = ParameterTable(model)
    losses = model(inputs=toy_batch(0)['inputs'], targets={'a': toy_batch(0)['targets']['a']}, mode='loss')
    table.observe({'a': losses['a.loss']})
    assert table.shared() == [name for name, _ in model.named_parameters()]
    assert table.own('a') == []


@pytest.mark.parametrize('key', ROWS)
def test_a_learning_rate_that_stays_zero_is_worth_a_warning(key, monkeypatch):
    """Once, and not for the one step at which many schedules end."""
    said = []
    monkeypatch.setattr(silent_tasks, 'print_log', lambda text, **kwargs: said.append(text))
    model = make_model()
    wrapper = build(key, model)
    for number, (rate, count) in enumerate(
        [(0.1, 0), (0, 0), (0.1, 0), (0, 0), (0, 1), (0, 1), (0.1, 1), (0, 1), (0, 1)]
    ):
        for group in wrapper.param_groups:
            group['lr'] = rate
        train(model, wrapper, [number])
        assert sum('the learning rate was 0 in two steps' in text for text in said) == count
