"""A step that was skipped, whatever skipped it, leaves no trace in what a method has learnt."""

import copy

import pytest
import torch

from mtl_plugins.engine import ReleasedTaskGroupOptimWrapper, SelectiveTaskGroupOptimWrapper
from tests.support.runs import differences

from .all_methods import ROWS, build, read_fragment
from .toy import TASKS, flat, make_model, toy_batch

# fp16's scaler finds an overflow after the fact; elsewhere the guard looks before the step.
SKIPPERS = {'overflow': dict(precision=dict(precision='fp16', init_scale=2.0**10)), 'guard': dict(precision='fp32')}
ONE_PER_WRAPPER = {read_fragment(key)['type']: key for key in ROWS}.values()
# Settled before the step: the turn that the batch belongs to, and what is drawn for it.
BEFORE_THE_STEP = {'num_steps', 'num_regroupings_due', 'groups', 'waiting', 'grouper'}


def poison(model, tasks=TASKS):
    """Make the gradients of the heads of ``tasks`` infinite, until the handles are removed."""
    return [model.heads[task][0].weight.register_hook(lambda grad: grad * float('inf')) for task in tasks]


def grouped(wrapper, model, **kwargs):
    """STGU with noise that differs from forward to forward: a step credited by mistake shows in the map."""
    kind = 'ReleasedAffinity' if wrapper is ReleasedTaskGroupOptimWrapper else 'ProximalAffinity'
    options = dict(
        affinity=dict(type=kind, decay=0.3),
        probe_interval=1,
        same_noise=False,
        warmup_iters=100,
        seed=0,
    )
    return wrapper(torch.optim.SGD(model.parameters(), lr=0.05), **options, **kwargs)


@pytest.mark.parametrize('skipper', SKIPPERS)
@pytest.mark.parametrize('wrapper', [SelectiveTaskGroupOptimWrapper, ReleasedTaskGroupOptimWrapper])
def test_a_group_that_did_not_step_is_not_credited(wrapper, skipper):
    """The map after good batches, so that even a credit of zero would move it."""
    model = make_model(dropout=0.3)
    each = grouped(wrapper, model, **SKIPPERS[skipper])
    for number in range(4):
        torch.manual_seed(number)
        model.train_step(toy_batch(number), each)
    before = each.affinity.matrix
    assert (before != 0).all()

    handles = poison(model)
    weights = flat(model)
    model.train_step(toy_batch(4), each)
    assert torch.equal(flat(model), weights)
    assert torch.equal(each.affinity.matrix, before)
    for handle in handles:
        handle.remove()

    model.train_step(toy_batch(5), each)
    assert (each.affinity.matrix != before).any(), 'the next batch counts again'


@pytest.mark.parametrize('skipper', SKIPPERS)
def test_only_the_group_that_did_not_step_goes_without_credit(skipper):
    for task in TASKS:
        model = make_model(dropout=0.3)
        wrapper = grouped(SelectiveTaskGroupOptimWrapper, model, **SKIPPERS[skipper])
        for number in range(3):
            model.train_step(toy_batch(number), wrapper)
        before = wrapper.affinity.matrix
        poison(model, [task])
        model.train_step(toy_batch(3), wrapper)
        changed = (wrapper.affinity.matrix != before).any(dim=1).tolist()
        assert changed == [each != task for each in TASKS]


@pytest.mark.parametrize(
    ('key', 'skipper'), [*((key, 'guard') for key in ROWS), *((key, 'overflow') for key in ONE_PER_WRAPPER)]
)
def test_the_whole_state_of_a_method_survives_a_skipped_batch(key, skipper):
    """All that a checkpoint keeps of the method and its optimizer."""
    model = make_model()
    wrapper = build(key, model, **SKIPPERS[skipper])
    for number in range(2):
        torch.manual_seed(number)
        model.train_step(toy_batch(number), wrapper)

    def kept(strategy):
        kept = {name: value for name, value in strategy.strategy_state().items() if name not in BEFORE_THE_STEP}
        kept['weighting'] = {name: value for name, value in kept['weighting'].items() if name != 'logits'}
        return kept

    def state():
        method = list(map(kept, wrapper.strategies))
        optimizer = wrapper.optimizer.state_dict()['state']
        return copy.deepcopy(dict(method=method, optimizer=optimizer, weights=flat(model)))

    before = state()
    poison(model)
    model.backbone[0].weight.register_hook(lambda grad: grad * float('inf'))
    model.train_step(toy_batch(3), wrapper)
    assert differences(state(), before) == []
