"""PCD, MoDo, CR-MOGM, preferences and the row normaliser: what is particular to them."""

import pytest
import torch

from mtl_plugins.methods.aggregation import (
    CRMOGM,
    MGDA,
    PCD,
    AlignedMTL,
    ConFIG,
    DualProj,
    GradDrop,
    MoDo,
    SDMGrad,
    UPGrad,
)
from mtl_plugins.methods.aggregation.rows import divisors

from .cases import call, losses_for, makers, matrix, seeded


def rows(number, num_rows=3):
    return torch.randn(num_rows, 8, dtype=torch.float64, generator=seeded(number))


# ---------------------------------------------------------------- the main task
def test_pcd_follows_the_main_task_wherever_it_is_listed():
    G = rows(1)
    first = PCD(tasks=['a', 'b', 'c'])
    named = PCD(main='a', tau=dict(b=0.02), tasks=['c', 'b', 'a'])
    for factor in (1, 3):
        torch.testing.assert_close(first(factor * G), named(factor * G.flip(0)), rtol=1e-12, atol=1e-12)


def test_pcd_keeps_its_promise_to_the_others():
    for number in range(20):
        G = rows(number)
        update = PCD(tau=0.3)(G)
        assert float(update.norm()) == pytest.approx(float(G[0].norm()))
        # before it is brought to that length, d is at least as long as its part along the main gradient
        cosines = torch.nn.functional.cosine_similarity(G, update[None], dim=1)
        assert cosines[1:].min() > 0


def test_pcd_without_its_main_task_is_the_mean_and_keeps_its_state():
    G, aggregator = rows(2), PCD(main='b', tasks=['a', 'b', 'c'])
    aggregator(G)
    state = aggregator.state_dict()
    others = G[[0, 2]]
    torch.testing.assert_close(aggregator(others, task_ids=torch.tensor([0, 2])), others.mean(0))
    assert aggregator.fallbacks == 1
    assert all(torch.equal(state[name], value) for name, value in aggregator.state_dict().items())


def test_pcd_with_incompatible_wishes_is_the_main_gradient():
    G = rows(3, num_rows=2)
    aggregator = PCD()
    torch.testing.assert_close(aggregator(torch.stack([G[0], G[1], -G[1]])), G[0])
    assert aggregator.fallbacks == 1


# ---------------------------------------------------------------- batches and averages
def test_modo_takes_two_batches_or_three():
    batches = torch.stack([rows(number) for number in range(3)])
    two, three = MoDo(gamma=0.05, rho=0.7), MoDo(gamma=0.05, rho=0.7)
    update = two(batches[:2])
    torch.testing.assert_close(update, two.last_weights @ batches[:2].mean(0))
    torch.testing.assert_close(three(batches), two.last_weights @ batches[2])
    shares = torch.full((3,), 1 / 3, dtype=torch.float64)
    shares = shares - 0.05 * (batches[0] @ batches[1].T @ shares + 0.7 * shares)
    wanted = shares - shares.mean() + 1 / 3
    assert wanted.min() >= 0  # inside the simplex, where its projection is no more than that
    torch.testing.assert_close(two.last_weights, wanted)


@pytest.mark.parametrize(
    ('kind', 'words'), [(MoDo, r'two or three .* \(2, K, D\) or \(3, K, D\)'), (SDMGrad, r'three .* \(3, K, D\)')]
)
def test_one_batch_is_refused_where_several_are_wanted(kind, words):
    with pytest.raises(ValueError, match=f'{kind.__name__} needs gradients of {words}'):
        kind()(rows(0))
    with pytest.raises(ValueError, match='must be of shape'):
        kind()(torch.zeros(4, 3, 8))


def test_the_average_of_equal_weights_is_the_method_inside():
    G = rows(4)
    aggregator = CRMOGM(UPGrad(), alpha=0.7)
    for _ in range(3):
        torch.testing.assert_close(aggregator(G), UPGrad()(G))
    assert aggregator.scale == 'mean'
    assert aggregator.parts == ('CRMOGM', 'UPGrad')


INSIDE = [(name, make) for name, make in makers() if make().gramian_only and make().normalised_by == 'none']


@pytest.mark.parametrize('make', [make for _, make in INSIDE], ids=[name for name, _ in INSIDE])
def test_without_a_past_the_average_is_the_method_inside(make):
    """Any of them, with absent tasks, rows of zeros, states, and what is counted."""
    generator, names = seeded(21), ['0', '1', '2', '3']
    plain, ours = make().normalise_rows('loss'), CRMOGM(make(), alpha=0).normalise_rows('loss')
    for aggregator in (plain, ours):
        aggregator.bind(names)
    for number, kind in enumerate(('normal', 'zero_rows', 'opposite', 'normal', 'equal')):
        G, ids = matrix(kind, generator, num_rows=4), torch.arange(4)
        losses = losses_for(G, generator) * (number != 3)  # of which the last but one cannot normalise
        ids = ids[ids != number]
        updates = [call(each, G[ids], losses[ids], number, ids) for each in (plain, ours)]
        torch.testing.assert_close(*updates, rtol=1e-9, atol=1e-12 * float(G.abs().max()))
    assert ours.fallbacks == plain.fallbacks >= 1


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ValueError, match=r'CRMOGM: aggregator must be a method whose weights follow .* GradDrop\('):
        CRMOGM(GradDrop())
    with pytest.raises(ValueError, match='alpha must lie between 0 and 1, but got 2'):
        CRMOGM(alpha=2)


# ---------------------------------------------------------------- preferences
@pytest.mark.parametrize('kind', [UPGrad, DualProj, AlignedMTL, ConFIG])
def test_preferences_by_name_order_and_tensor_are_the_same(kind):
    G, names = rows(5), ['a', 'b', 'c']
    updates = [
        kind(pref_vector=given, tasks=names)(G)
        for given in ([1, 0.5, 1], dict(b=0.5), torch.tensor([1, 0.5, 1], dtype=torch.float64))
    ]
    assert torch.equal(updates[0], updates[1])
    assert torch.equal(updates[0], updates[2])
    assert not torch.allclose(updates[0], kind()(G))
    equal = kind(pref_vector=[1, 1, 1])(G)
    torch.testing.assert_close(equal, kind()(G) * (3 if kind.scale == 'mean' else 1))
    # who is absent takes its preference along
    some = kind(pref_vector=[1, 0.5, 1], tasks=names)(G[1:], task_ids=torch.tensor([1, 2]))
    torch.testing.assert_close(some, kind(pref_vector=[0.5, 1])(G[1:]))


@pytest.mark.parametrize('given', [[1, -1], [0, 0], 3, 'ab', [1, float('nan')], dict(a=-1)])
def test_preferences_that_make_no_sense_are_refused(given):
    with pytest.raises(ValueError, match='UPGrad: pref_vector must hold numbers >= 0 that are not all zero'):
        UPGrad(pref_vector=given)


def test_preferences_of_other_tasks_are_refused():
    with pytest.raises(ValueError, match=r'one number for each of the 3 tasks \(a, b, c\), but holds 2'):
        UPGrad(pref_vector=[1, 2], tasks=['a', 'b', 'c'])
    with pytest.raises(ValueError, match="pref_vector names the unknown task 'd'"):
        UPGrad(pref_vector=dict(d=1), tasks=['a', 'b'])
    with pytest.raises(ValueError, match='must not be zero for all tasks'):
        UPGrad(pref_vector=dict(a=0), tasks=['a'])
    with pytest.raises(ValueError, match="PCD: main names the unknown task 'd'"):
        PCD(main='d', tasks=['a', 'b'])


# ---------------------------------------------------------------- normalised rows
@pytest.mark.parametrize('make', [make for _, make in makers() if make().normalised_by == 'none'])
@pytest.mark.parametrize('by', ['l2', 'loss', 'loss+'])
def test_every_method_on_normalised_rows_is_the_method_on_rows_divided_by_hand(make, by):
    generator = seeded(7)
    G = matrix('normal', generator, num_rows=4)
    losses = losses_for(G, generator)
    divisor = torch.from_numpy(divisors(by, G.norm(dim=1).numpy(), losses.numpy()))
    plain, ours = make(), make().normalise_rows(by)
    for seed in range(2):
        wanted, update = (call(a, g, losses, seed) for a, g in ((plain, G / divisor[:, None]), (ours, G)))
        torch.testing.assert_close(update, wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))
    if plain.last_weights is not None:
        torch.testing.assert_close(ours.last_weights * divisor, plain.last_weights)


def test_losses_that_cannot_normalise_leave_the_rows_as_they_are():
    G, aggregator = rows(6), UPGrad().normalise_rows('loss')
    torch.testing.assert_close(aggregator(G, torch.tensor([1.0, 0.0, 2.0])), UPGrad()(G))
    assert aggregator.fallbacks == 1
    with pytest.raises(ValueError, match='UPGrad: rows can be normalised by none, l2, loss, loss'):
        UPGrad().normalise_rows('l1')


def test_the_normaliser_of_mgda_is_the_common_one():
    G, losses = rows(8), torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    own, common = MGDA('loss+', apply_to='normalised'), MGDA().normalise_rows('loss+')
    assert torch.equal(own(G, losses), common(G, losses))
    alone = MGDA().normalise_rows('l2')
    assert torch.equal(alone(G[:1]), G[0]), 'a single task has nothing to balance'
