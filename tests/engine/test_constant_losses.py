"""A loss without a graph, such as ``torch.tensor(0.)`` for "no label here", is no part of the batch."""

import copy

import pytest
import torch

from tests.support.runs import differences

from .all_methods import ROWS, build, record_gradients
from .toy import TASKS, ToyModel, flat, join, make_model, toy_batch

PAIR = ('a', 'c')
# They draw from the private generator in every batch, whoever is present.
DRAWS = {'rlw', 'stgu', 'stgu_released', 'phases'}
EXACT = [key for key, row in ROWS.items() if row.accumulates_exactly]


class Idiom(ToyModel):
    """Gives the tasks in ``constant`` a loss without a graph, valid elements or not."""

    def forward(self, inputs, targets, mode='tensor', constant=()):
        out = super().forward(inputs, targets, mode)
        out.update({f'{task}.loss': torch.tensor(0.7) for task in constant})
        return out


def make(**kwargs):
    torch.manual_seed(0)
    return Idiom(**kwargs).train()


def train(model, wrapper, number, constant=(), **batch):
    torch.manual_seed(number)
    return model.train_step(dict(toy_batch(number, **batch), constant=list(constant)), wrapper)


@pytest.mark.parametrize(('key', 'idle'), [*((key, True) for key in ROWS), ('stgu', False), ('stgu_released', False)])
def test_it_is_as_if_the_task_were_absent(key, idle):
    results = []
    for is_constant in (True, False):
        model = make(idle_without_graph=idle)
        wrapper = build(key, model)
        logged = []
        for number in range(4):
            here = number in (1, 2)
            batch = dict(constant=('b',)) if is_constant else dict(tasks=PAIR)
            logged.append(train(model, wrapper, number, **(batch if here else {})))
        assert float(logged[1].get('b.loss', 0)) == pytest.approx(0.7 if is_constant else 0)
        results.append((flat(model), copy.deepcopy(wrapper.state_dict()['mtl'])))
    assert torch.equal(results[0][0], results[1][0])
    assert differences(results[0][1], results[1][1]) == []


def test_it_is_not_taken_for_that_of_an_idle_head():
    """Which has no graph either, where the groups take turns; known from the first time on that the task is asked."""
    results = []
    for here in (dict(constant=('b',)), dict(tasks=PAIR)):
        model = make()
        wrapper = build('stgu', model, groups_per_batch=1)
        for number in range(6):
            train(model, wrapper, number, **(here if number >= 2 else {}))
        results.append((flat(model), copy.deepcopy(wrapper.state_dict()['mtl'])))
    assert torch.equal(results[0][0], results[1][0])
    assert differences(results[0][1], results[1][1]) == []


@pytest.mark.parametrize('key', ROWS)
def test_without_any_graph_nothing_happens(key):
    """No loss at all in the first batch, then everything frozen in the third."""
    results = []
    for silent in (True, False):
        model = make()
        wrapper = build(key, model)
        if silent:
            train(model, wrapper, 9, constant=TASKS)
        train(model, wrapper, 0)
        if silent:
            model.requires_grad_(False)
            before = flat(model)
            train(model, wrapper, 9)
            assert torch.equal(flat(model), before)
            model.requires_grad_(True)
        train(model, wrapper, 1)
        results.append(flat(model))
    if key not in DRAWS:
        assert torch.equal(*results)


@pytest.mark.parametrize('key', EXACT)
def test_it_does_not_dilute_another_micro_batch(key):
    large, small = make(), make()
    one, two = build(key, large, lr=1e-2), build(key, small, lr=1e-2, accumulative_counts=2)
    joint, accumulated = record_gradients(one), record_gradients(two)
    train(small, two, 1)
    train(small, two, 2, constant=('b',))
    large.train_step(join(toy_batch(1), toy_batch(2, tasks=PAIR)), one)
    assert len(joint) == len(accumulated)
    here, there = (torch.cat([g.reshape(-1) for g in seen[0] if g is not None]) for seen in (joint, accumulated))
    assert (here - there).norm() <= 1e-5 * here.norm()


def test_in_a_loop_of_ones_own_too():
    """A plain closure, two micro-batches: the second one's loss of ``b`` is a constant."""
    found = []
    for constant in (True, False):
        model = make_model(report_valid=False)
        wrapper = build('gd', model, tasks=TASKS, accumulative_counts=2)
        seen = record_gradients(wrapper)
        for number in range(2):

            def closure(active=None, *, grad=True, number=number, model=model, constant=constant):
                with torch.set_grad_enabled(grad):
                    out = model(**toy_batch(number), mode='loss')
                losses = {task: out[f'{task}.loss'] for task in TASKS}
                if number == 1:
                    losses['b'] = torch.tensor(0.0)
                    if not constant:
                        del losses['b']
                return losses

            wrapper.step_tasks(closure)
        found.append(torch.cat([gradient.reshape(-1) for gradient in seen[0]]))
    assert torch.equal(*found)
