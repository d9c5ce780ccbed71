"""STGU with groups that take turns over the batches (``groups_per_batch``)."""

import copy

import pytest
import torch

from mtl_plugins.engine import ReleasedTaskGroupOptimWrapper, SelectiveTaskGroupOptimWrapper
from tests.support.runs import differences

from .toy import TASKS, flat, make_model, toy_batch


def stgu(model, **kwargs):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-2)
    return SelectiveTaskGroupOptimWrapper(optimizer, **{'seed': 0, 'probe_interval': 1, **kwargs})


def train(model, wrapper, numbers):
    """Train; returns what stepped in each batch, by task name."""
    stepped, step = [], wrapper._step_group
    wrapper._step_group = lambda batch, group: (stepped[-1].append(wrapper._names(group)), step(batch, group))[1]
    for number in numbers:
        stepped.append([])
        model.train_step(toy_batch(number), wrapper)
    wrapper._step_group = step
    return stepped


def test_one_group_per_batch_equals_a_plain_loop():
    ours, plain = make_model(), make_model()
    singles = dict(grouper=dict(type='Fixed', groups=[[task] for task in TASKS]), warmup_iters=1000)
    train(ours, stgu(ours, groups_per_batch=1, probe_interval=0, seed=3, **singles), range(8))
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(3)
    for number in range(8):
        if number % 3 == 0:
            order = torch.randperm(3, generator=generator).tolist()
        plain(**toy_batch(number), mode='loss')[f'{TASKS[order[number % 3]]}.loss'].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert torch.equal(flat(ours), flat(plain))


def test_as_many_as_there_are_is_all_of_them():
    weights = []
    for groups_per_batch in (None, 3, 7):
        model = make_model()
        options = dict(affinity=dict(type='ProximalAffinity', decay=0.2), warmup_iters=3, regroup_interval=2)
        train(model, stgu(model, groups_per_batch=groups_per_batch, **options), range(20))
        weights.append(flat(model))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


@pytest.mark.parametrize('groups_per_batch', [1, 2])
def test_a_turn_steps_every_task_once(groups_per_batch):
    model = make_model()
    options = dict(affinity=dict(type='ProximalAffinity', decay=0.2), warmup_iters=6, regroup_interval=4)
    wrapper = stgu(model, groups_per_batch=groups_per_batch, **options)
    turn, partitions = [], []
    for groups in train(model, wrapper, range(80)):
        assert 1 <= len(groups) <= groups_per_batch
        turn += groups
        tasks = [task for group in turn for task in group]
        assert len(set(tasks)) == len(tasks), 'a task stepped twice before the others had their turn'
        if set(tasks) == set(TASKS):
            partitions.append(str(sorted(sorted(group) for group in turn)))
            turn = []
    assert len(set(partitions)) > 1, 'the groups never changed, so the test shows nothing'


def test_regrouping_that_falls_into_a_turn_follows_it():
    """Due after batches 2, 9, 16, ...; a turn of three single tasks ends after batch 3."""
    model = make_model()
    wrapper = stgu(
        model, groups_per_batch=1, grouper=dict(type='Fixed', groups=[list(TASKS)]), warmup_iters=2, regroup_interval=7
    )
    assert [len(groups[0]) for groups in train(model, wrapper, range(6))] == [1, 1, 1, 3, 3, 3]


def test_probe_measures_the_group_that_stepped():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    wrapper = SelectiveTaskGroupOptimWrapper(
        optimizer, affinity=dict(type='ProximalAffinity', decay=1.0), probe_interval=1, groups_per_batch=1, seed=5
    )
    for number in range(3):
        batch = toy_batch(number)
        before = model(**batch, mode='loss')
        rows = wrapper.affinity.matrix.clone() if wrapper.affinity is not None else torch.zeros(3, 3).double()
        model.train_step(batch, wrapper)
        after = model(**batch, mode='loss')
        changed = (wrapper.affinity.matrix != rows).any(dim=1).nonzero().flatten().tolist()
        assert len(changed) == 1
        change = torch.stack([1 - after[f'{t}.loss'].double() / before[f'{t}.loss'].double() for t in TASKS])
        torch.testing.assert_close(wrapper.affinity.matrix[changed[0]], change.detach(), rtol=1e-5, atol=1e-7)
    assert (wrapper.affinity.matrix != 0).all()


def test_resumes_in_the_middle_of_a_turn():
    options = dict(
        affinity=dict(type='ProximalAffinity', decay=0.2), groups_per_batch=1, warmup_iters=4, regroup_interval=3
    )
    whole = make_model()
    wrapper = stgu(whole, **options)
    train(whole, wrapper, range(11))
    assert wrapper.state_dict()['mtl']['strategy']['waiting'], 'the turn was over, so the test shows nothing'
    first = make_model()
    resumed = stgu(first, **options)
    first.load_state_dict(whole.state_dict())
    resumed.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    train(whole, wrapper, range(11, 30))
    train(first, resumed, range(11, 30))
    assert torch.equal(flat(whole), flat(first))
    assert differences(wrapper.state_dict()['mtl'], resumed.state_dict()['mtl']) == []


def test_released_program_does_not_repeat_a_turn():
    """It steps a single group twice; a group that is alone in its batch is not that."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    wrapper = ReleasedTaskGroupOptimWrapper(optimizer, groups_per_batch=1, seed=0)
    assert [len(groups) for groups in train(model, wrapper, range(6))] == [1] * 6


def test_cost_is_that_of_the_groups_of_a_batch():
    model = make_model()
    wrapper = stgu(model, groups_per_batch=2, probe_interval=10)
    train(model, wrapper, [0])
    assert wrapper.cost_per_batch().forwards == wrapper.cost_per_batch().backwards == 2


@pytest.mark.parametrize('value', [0, -1, 1.5])
def test_bad_number_is_refused(value):
    with pytest.raises(ValueError, match='groups_per_batch must be an integer >= 1'):
        stgu(make_model(), groups_per_batch=value)
