"""What STGU tells its parts: the weighting, the grouper, the log, and the other ranks' groups."""

import copy
import math

import pytest
import torch
from mmengine.logging import MessageHub

from mtl_plugins.engine import ReleasedTaskGroupOptimWrapper, SelectiveTaskGroupOptimWrapper
from tests.support.runs import differences

from .toy import TASKS, flat, make_model, toy_batch

SINGLES = dict(type='Fixed', groups=[[task] for task in TASKS])


def stgu(model, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return SelectiveTaskGroupOptimWrapper(optimizer, **{'seed': 0, 'tasks': TASKS, **kwargs})


def losses_of(model, batch):
    with torch.no_grad():
        out = model(**batch, mode='loss')
    return [out[f'{task}.loss'].item() if f'{task}.loss' in out else math.nan for task in TASKS]


def spied(weighting, needs_after_step):
    """Record what the weighting is told."""
    told = []
    weighting.begin_step = lambda generator: told.append('begin')
    weighting.after_step = lambda before, after, valid: told.append((before, after, valid))
    type(weighting).needs_after_step = needs_after_step
    return told


@pytest.fixture
def weighting_class():
    from mtl_plugins.methods import EqualWeighting

    former = EqualWeighting.needs_after_step
    yield EqualWeighting
    EqualWeighting.needs_after_step = former


@pytest.mark.parametrize('needs_after_step', [False, True])
def test_the_weighting_hears_of_each_tasks_own_forward(weighting_class, needs_after_step):
    """Before: the loss at which a task was stepped, NaN for tasks that were not. After: only for who needs it."""
    model, copy_of_it = make_model(), make_model()
    wrapper = stgu(model, grouper=SINGLES, warmup_iters=1000, probe_interval=0)
    told = spied(wrapper.weighting, needs_after_step)
    model.heads['b'][0].weight.register_hook(lambda grad: grad * math.inf)
    batch = toy_batch(0, tasks=('a', 'b'))

    stepped, step = {}, wrapper._step_group

    def spy(measured, group):
        copy_of_it.load_state_dict(model.state_dict())
        stepped[group[0]] = losses_of(copy_of_it, batch)[group[0]]
        return step(measured, group)

    wrapper._step_group = spy
    model.train_step(batch, wrapper)
    begin, (before, after, valid) = told
    assert begin == 'begin'
    assert valid.tolist() == [True, False, False], 'b overflowed and c was absent'
    assert before[0].item() == pytest.approx(stepped[0], rel=1e-6)
    assert before[1:].isnan().all()
    if needs_after_step:
        torch.testing.assert_close(after[:2].tolist(), losses_of(model, batch)[:2], rtol=1e-6, atol=0)
    else:
        assert after is None


def test_probes_come_when_they_are_due_and_without_a_graph():
    model = make_model()
    wrapper = stgu(model, grouper=SINGLES, probe_interval=3)
    probes = []

    def closure(active=None, *, grad=True):
        out = model(**toy_batch(0), mode='loss')
        if active == ():
            probes.append((wrapper.num_steps, grad))
        return {task: out[f'{task}.loss'] for task in TASKS}

    for _ in range(7):
        wrapper.step_tasks(closure)
    assert probes == [(3, False), (6, False)]


def test_groups_without_a_labelled_task_are_passed_over():
    """Nothing steps, nothing is kept: neither a graph nor a credit."""
    model = make_model()
    wrapper = stgu(model, grouper=SINGLES, probe_interval=1, affinity=dict(type='ProximalAffinity', decay=1.0))
    held, step = [], wrapper._step_group
    wrapper._step_group = lambda batch, group: (step(batch, group), held.append((group, batch._held)))[0]
    before = flat(model)
    model.train_step(toy_batch(0, tasks=('b',)), wrapper)
    assert held
    assert all(graph is None for _, graph in held)
    assert torch.equal(flat(model.heads['a']), flat(make_model().heads['a']))
    assert not torch.equal(flat(model), before)
    assert (wrapper.affinity.matrix != 0).nonzero().tolist() == [[1, 1]]
    backwards = MessageHub.get_current_instance().get_scalar('train/backwards')
    assert backwards.current() == 1
    model.train_step(toy_batch(0, tasks=()), wrapper)
    assert wrapper.num_steps == 2


def test_effects_on_a_task_whose_labels_were_counted_anew_are_taken_back():
    model = make_model()
    wrapper = stgu(model, grouper=SINGLES, probe_interval=1, affinity=dict(type='ProximalAffinity', decay=0.5))
    model.train_step(toy_batch(0), wrapper)
    before, step = wrapper.affinity.matrix, wrapper._step_group
    wrapper._step_group = lambda batch, group: (step(batch, group), batch.recounted.add('b'))[0]
    model.train_step(toy_batch(1), wrapper)
    changed = wrapper.affinity.matrix != before
    assert changed.tolist() == [[True, False, True]] * 3


def test_all_ranks_take_the_groups_of_rank_0():
    model = make_model()
    wrapper = stgu(model, grouper=SINGLES, warmup_iters=0)
    wrapper.decide = lambda decision: (decision(), [1, 0, 1])[1]
    stepped, step = [], wrapper._step_group
    wrapper._step_group = lambda batch, group: (stepped.append(group), step(batch, group))[1]
    model.train_step(toy_batch(0), wrapper)
    assert stepped == [[1], [0, 2]]
    assert wrapper.groups == [[0, 2], [1]]
    assert wrapper.group_names == [['a', 'c'], ['b']]


def test_the_log_follows_the_groups():
    hub = MessageHub.get_current_instance()
    for groups in ([list(TASKS)], [['a', 'b'], ['c']], [[task] for task in TASKS]):
        model = make_model()
        wrapper = stgu(model, grouper=dict(type='Fixed', groups=groups), warmup_iters=0)
        model.train_step(toy_batch(0), wrapper)
        assert hub.get_scalar('train/num_groups').current() == len(groups)


@pytest.mark.parametrize(('warmup', 'interval'), [(0, 1), (0, 3), (2, 2), (3, 4)])
def test_groups_are_made_after_the_warmup_and_then_at_every_interval(warmup, interval):
    model = make_model()
    wrapper = stgu(model, warmup_iters=warmup, regroup_interval=interval)
    asked, partition = [], wrapper.grouper._partition
    wrapper.grouper._partition = lambda *args: (asked.append(number), partition(*args))[1]
    for number in range(8):
        model.train_step(toy_batch(number), wrapper)
        assert len(wrapper.groups) == 3 or number >= warmup
    assert asked == list(range(warmup, 8, interval))


def test_a_resume_brings_back_every_part():
    """Grouper and weighting that have a state, and no order that was drawn before the load."""
    options = dict(weighting=dict(type='DWA'), warmup_iters=1, regroup_interval=2)
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    wrapper = ReleasedTaskGroupOptimWrapper(optimizer, seed=0, tasks=TASKS, **options)
    wrapper.weighting.set_epoch_length(1)
    for number in range(8):
        model.train_step(toy_batch(number), wrapper)
    wrapper.grouper.fallbacks = 3
    saved = copy.deepcopy(wrapper.state_dict())
    assert saved['mtl']['strategy']['grouper']['previous']

    other = make_model(seed=1)
    other.load_state_dict(model.state_dict())
    resumed = ReleasedTaskGroupOptimWrapper(
        torch.optim.SGD(other.parameters(), lr=0.05), seed=0, tasks=TASKS, **options
    )
    resumed.weighting.set_epoch_length(1)
    assert len(resumed._batch_order()) == 3
    resumed.load_state_dict(saved)
    assert differences(resumed.state_dict(), wrapper.state_dict()) == []
    for number in range(8, 11):
        for each, of in ((model, wrapper), (other, resumed)):
            each.train_step(toy_batch(number), of)
    assert differences(resumed.state_dict(), wrapper.state_dict()) == []


OURS = dict(warmup_iters=100, regroup_interval=10, probe_interval=10, same_noise=True, bn_stats='first')
RELEASED = dict(warmup_iters=101, regroup_interval=1, probe_interval=0, same_noise=False, bn_stats='every')


@pytest.mark.parametrize(
    ('wrapper_class', 'defaults'), [(SelectiveTaskGroupOptimWrapper, OURS), (ReleasedTaskGroupOptimWrapper, RELEASED)]
)
def test_the_defaults_are_the_documented_ones(wrapper_class, defaults):
    """They decide what a config without numbers means, now and for the checkpoints of former runs."""
    wrapper = wrapper_class(torch.optim.SGD(make_model().parameters(), lr=0.1), tasks=TASKS)
    assert {name: getattr(wrapper, name) for name in defaults} == defaults
    assert wrapper.groups_per_batch is None
    assert wrapper.affinity.decay == 1e-3
    assert wrapper.affinity.skip_negative_self == (defaults is RELEASED)
    assert wrapper.method_name == ('stgu' if defaults is OURS else 'stgu_released')
