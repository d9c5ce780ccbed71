"""A run with one task only: ordinary training, but for the methods whose row in the catalogue says why not."""

import pytest
import torch

from mtl_plugins.methods import CAGrad, FairGrad, NashMTL, NGDiff

from .all_methods import ROWS, build, train
from .toy import flat, make_model, toy_batch


def steps(wrapper, model, numbers=range(4)):
    start = flat(model)
    train(model, wrapper, numbers, tasks=('a',))
    return flat(model) - start


def ordinary(key):
    """The movement of ordinary training with the optimizer that the method would have."""
    model = make_model(tasks=('a',))
    wrapper = build('gd', model, lr=0.02)
    if ROWS[key].wrapper == 'AdaTaskOptimWrapper':
        settings = build(key, make_model(tasks=('a',)), lr=0.02).optimizer.param_groups[0]
        wrapper.optimizer = torch.optim.Adam(model.parameters(), lr=settings['lr'], betas=settings['betas'])
    return steps(wrapper, model)


@pytest.mark.parametrize('key', ROWS)
def test_a_run_with_one_task_moves_the_weights_as_its_row_says(key):
    model = make_model(tasks=('a',))
    moved, plain = steps(build(key, model, lr=0.02), model), ordinary(key)
    difference = float((moved - plain).norm() / plain.norm())
    assert difference > 1e-3 if ROWS[key].one_task else difference <= 1e-6


@pytest.mark.parametrize('key', ['cagrad', 'fairgrad', 'nash_mtl', 'ngdiff'])
def test_tasks_that_are_merely_absent_leave_the_method_as_it_is(key):
    """K is that of the run: the step of a batch with one of two tasks fits the steps of the other batches."""
    model = make_model(tasks=('a', 'b'))
    wrapper = build(key, model, lr=0.02)
    train(model, wrapper, [0], tasks=('a', 'b'))
    start = flat(model.backbone)
    plain = make_model(tasks=('a', 'b'))
    plain.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    model.train_step(toy_batch(1, tasks=('a',)), wrapper)
    torch.manual_seed(1)
    plain.train_step(toy_batch(1, tasks=('a',)), build('gd', plain, lr=0.02, tasks=('a', 'b')))
    moved, expected = flat(model.backbone) - start, flat(plain.backbone) - start
    assert torch.cosine_similarity(moved, expected, dim=0) > 1 - 1e-5
    factor = float(moved.norm() / expected.norm())
    length = float(expected.norm()) / 0.02
    wanted = dict(cagrad=1.4 / 1.16, fairgrad=length ** (-4 / 3), nash_mtl=1 / length, ngdiff=1 / length)
    assert factor == pytest.approx(wanted[key], rel=1e-4)


@pytest.mark.parametrize(
    'make',
    [
        lambda **k: CAGrad(c=1.0, rescale=0, **k),
        lambda **k: FairGrad(alpha=0.5, **k),
        NashMTL,
        lambda **k: NGDiff(**k),
    ],
)
def test_the_update_of_one_task_is_its_gradient(make):
    """Alone, with the tasks told or not; with a second task in the run it is the method's own."""
    G = torch.tensor([[3.0, -4.0]])
    assert torch.equal(make()(G), G[0])
    assert torch.equal(make(tasks=['a'])(G), G[0])
    assert not torch.allclose(make(tasks=['a', 'b'])(G, task_ids=torch.tensor([1])), G[0])


def test_what_a_user_asked_for_holds_for_one_task_too():
    G = torch.tensor([[3.0, -4.0]])
    assert NashMTL(max_norm=1.0)(G).norm() == pytest.approx(1.0)
    assert torch.equal(NGDiff(signs=[-1])(G), -G[0])
