"""Turns in which the heads of waiting tasks step along (``idle_heads='step'``), against a loop that knows no engine."""

import copy

import pytest
import torch

from mtl_plugins.engine import ReleasedTaskGroupOptimWrapper, SelectiveTaskGroupOptimWrapper
from mtl_plugins.engine.step import reduction
from tests.support.runs import differences
from tests.support.thread_ranks import Ranks

from .changing_graphs import LR, SCENARIOS, STEPS, FromScratch, make, micro, prepare, run
from .toy import TASKS, flat, make_model, toy_batch

TURNS = dict(idle_heads='step', groups_per_batch=1, probe_interval=2)
GROUPS = dict(grouper=dict(type='Fixed', groups=[['a', 'b'], ['c']]), warmup_iters=0)


def check(scenario, found, parts=1):
    """Every step of a run: the group moves all that its losses reach, the others their own parameters."""
    slow = FromScratch('stgu', scenario)
    moved_idle = 0
    for number in range(STEPS):
        before, after = found['weights'][number], found['weights'][number + 1]
        prepare(slow.model, scenario, number)
        slow.put(before)
        slow.batches = [micro(scenario, number, part, parts) for part in range(parts)]
        slow.trainable = {name: p for name, p in slow.names.items() if p.requires_grad}
        _, gradients = slow.differentiate()
        for task, each in gradients.items():
            for name, gradient in each.items():
                if gradient is not None:
                    slow.users.setdefault(name, set()).add(task)
        members = [slow.tasks[task] for group in found['groups'][number] for task in group]
        moved = {name: torch.zeros_like(value) for name, value in before.items()}
        for task, each in gradients.items():
            for name, gradient in each.items():
                if gradient is not None and (task in members or slow.users[name] == {task}):
                    moved[name] -= LR * gradient
                    moved_idle += task not in members
        for name in before:
            torch.testing.assert_close(after[name] - before[name], moved[name], rtol=1e-4, atol=1e-6)
    assert moved_idle > 0 or len(slow.tasks) == 1


@pytest.mark.parametrize('parts', [1, 2])
@pytest.mark.parametrize('scenario', SCENARIOS)
def test_the_step_is_the_one_from_scratch(scenario, parts):
    batches = lambda number: [micro(scenario, number, part, parts) for part in range(parts)]  # noqa: E731
    groups = {} if scenario == 'one task' else GROUPS
    check(scenario, run('stgu', scenario, batches=batches, accumulative_counts=parts, **TURNS, **groups), parts)


@pytest.mark.parametrize('scenario', ['second user', 'skipped at first', 'constant loss'])
def test_so_it_is_on_two_ranks(scenario, monkeypatch):
    ranks = Ranks(2)
    monkeypatch.setattr(reduction, 'dist', ranks)
    models = [make(scenario) for _ in range(2)]
    monkeypatch.setattr('tests.engine.changing_graphs.make', lambda scenario: models[ranks.get_rank()])
    job = lambda rank: run('stgu', scenario, batches=lambda n: [micro(scenario, n, rank, 2)], **TURNS, **GROUPS)  # noqa: E731
    first, second = ranks.run(job)
    monkeypatch.undo()
    assert differences(first['weights'], second['weights']) == []
    check(scenario, first, parts=2)


def stgu(model, kind=SelectiveTaskGroupOptimWrapper, **kwargs):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-2)
    return kind(optimizer, **{**TURNS, 'warmup_iters': 4, 'regroup_interval': 3, 'seed': 0, **kwargs})


def train(model, wrapper, numbers, **batch):
    for number in numbers:
        torch.manual_seed(number)
        model.train_step(toy_batch(number, **batch), wrapper)


def test_one_ordinary_step_of_adam_bit_by_bit():
    """One forward, one step of the optimizer; the loop differentiates every task by itself."""
    ours, slow = make_model(dropout=0.3), make_model(dropout=0.3)
    train(ours, stgu(ours, probe_interval=0, grouper=dict(type='Singletons'), warmup_iters=100, seed=3), range(7))
    optimizer = torch.optim.Adam(slow.parameters(), lr=1e-2, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(3)
    for number in range(7):
        if number % 3 == 0:
            order = torch.randperm(3, generator=generator).tolist()
        torch.manual_seed(number)
        losses = slow(**toy_batch(number), mode='loss')
        for task in TASKS:
            shared = slow.backbone.parameters() if task == TASKS[order[number % 3]] else ()
            losses[f'{task}.loss'].backward(inputs=[*shared, *slow.heads[task].parameters()], retain_graph=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert torch.equal(flat(ours), flat(slow))


def test_it_costs_one_forward_and_one_backward():
    model = make_model()
    wrapper = stgu(model, probe_interval=10)
    counts, log = [], wrapper._log
    wrapper._log = lambda batch: (counts.append((batch.num_forwards, batch.num_backwards)), log(batch))
    train(model, wrapper, range(4))
    assert counts == [(1, 1)] * 4
    assert (wrapper.cost_per_batch().forwards, wrapper.cost_per_batch().backwards) == (1, 1)


def test_a_probe_sees_what_the_group_alone_did():
    """The map is that of a run in which the other heads hold still; the heads move all the same."""
    maps = []
    for idle_heads in ('step', 'hold'):
        model = make_model()
        wrapper = stgu(
            model, idle_heads=idle_heads, probe_interval=1, affinity=dict(type='ProximalAffinity', decay=1.0)
        )
        train(model, wrapper, [0])
        maps.append(wrapper.affinity.matrix)
        moved = [not torch.equal(flat(model.heads[t]), flat(make_model().heads[t])) for t in TASKS]
        assert sum(moved) == (3 if idle_heads == 'step' else 1)
    torch.testing.assert_close(*maps, rtol=1e-5, atol=1e-7)
    assert (maps[0] != 0).any()


def test_several_groups_per_batch_every_head_once():
    model, heads = make_model(), dict.fromkeys(TASKS, 0)
    wrapper = stgu(model, groups_per_batch=2, warmup_iters=100)
    for number in range(6):
        before = {task: flat(model.heads[task]) for task in TASKS}
        train(model, wrapper, [number])
        for task in TASKS:
            heads[task] += not torch.equal(before[task], flat(model.heads[task]))
        steps = {int(wrapper.optimizer.state[p]['step']) for p in model.heads.parameters()}
        assert steps == {number + 1}
    assert heads == dict.fromkeys(TASKS, 6)


@pytest.mark.parametrize('absent', TASKS)
def test_an_absent_task_holds_still_and_the_others_step(absent):
    model = make_model()
    present = tuple(task for task in TASKS if task != absent)
    wrapper = stgu(model, warmup_iters=100)
    train(model, wrapper, range(3), tasks=present)
    moved = [task for task in TASKS if not torch.equal(flat(model.heads[task]), flat(make_model().heads[task]))]
    assert moved == list(present)
    assert all(int(wrapper.optimizer.state[p]['step']) == 3 for task in present for p in model.heads[task].parameters())


@pytest.mark.parametrize('kind', [SelectiveTaskGroupOptimWrapper, ReleasedTaskGroupOptimWrapper])
def test_resumes_bit_by_bit_and_from_checkpoints_without_it(kind):
    whole = make_model()
    wrapper = stgu(whole, kind)
    train(whole, wrapper, range(8))
    for strip in (False, True):
        model, state = make_model(), copy.deepcopy(wrapper.state_dict())
        model.load_state_dict(whole.state_dict())
        if strip:
            del state['mtl']['strategy']['parameters']
        resumed = stgu(model, kind)
        resumed.load_state_dict(state)
        reference = copy.deepcopy(whole)
        again = stgu(reference, kind)
        again.load_state_dict(copy.deepcopy(wrapper.state_dict()))
        for each, its in ((model, resumed), (reference, again)):
            train(each, its, [8], tasks=TASKS if strip else ('b',))
            train(each, its, range(9, 14))
        assert torch.equal(flat(model), flat(reference))


def test_mixed_precision_loses_nothing_and_an_overflow_skips_the_step():
    results = []
    for precision in ('fp32', dict(precision='fp16', init_scale=2.0**10)):
        model = make_model()
        wrapper = stgu(model, precision=precision)
        wrapper.precision.autocast = lambda device: torch.autocast(device, enabled=False)
        train(model, wrapper, range(4))
        results.append(flat(model))
    assert torch.equal(*results)
    model.heads['b'][0].weight.register_hook(lambda grad: grad * float('inf'))
    train(model, wrapper, [4])
    assert torch.equal(flat(model), results[1])


def test_a_bad_word_is_refused():
    with pytest.raises(ValueError, match=r"idle_heads must be one of \('hold', 'step'\), but got 'steps'"):
        stgu(make_model(), idle_heads='steps')
