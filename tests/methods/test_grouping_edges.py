"""Groupers at the edges of what their arguments allow, and what they ask of the method behind them."""

import random
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch

from mtl_plugins.methods import AffinityPropagation, AllTasks, Fixed, PositiveAffinity, Random, Released, Singletons
from mtl_plugins.methods.grouping.agglomeration import merge_groups
from mtl_plugins.methods.grouping.canonical import canonical_order
from mtl_plugins.methods.grouping.propagation import propagate


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def symmetric(size, pairs, other=-1.0):
    """Ones on the diagonal, ``other`` beside it, and the values of single pairs."""
    matrix = np.full((size, size), other)
    np.fill_diagonal(matrix, 1.0)
    for (first, second), value in pairs.items():
        matrix[first, second] = matrix[second, first] = value
    return matrix


def test_merging_needs_more_than_the_threshold_and_stops_at_the_cap():
    singles = [[0], [1], [2], [3]]
    similarity = symmetric(4, {(0, 2): 0.5, (1, 3): 0.25})
    assert merge_groups(similarity, singles, threshold=0.5) == singles
    assert merge_groups(similarity, singles, threshold=0.25) == [[0, 2], [1], [3]]
    assert merge_groups(similarity, singles, threshold=0.2) == [[0, 2], [1, 3]]
    assert merge_groups(similarity, singles) == singles, 'without threshold and cap nothing is asked for'
    for cap in (1, 2, 3, 4, 9):
        merged = merge_groups(similarity, singles, max_groups=cap)
        assert len(merged) == min(cap, 4), 'the cap holds whatever the similarity'
        assert sorted(task for group in merged for task in group) == [0, 1, 2, 3]
    assert merge_groups(similarity, [[0, 1], [2, 3]], max_groups=1) == [[0, 1, 2, 3]]


def test_the_mean_over_all_pairs_decides_between_groups_of_unequal_size():
    """{0, 1, 2} and 3 have the mean 0.3, 3 and 4 have 0.35; the sums would say otherwise."""
    similarity = symmetric(5, {(0, 1): 0.9, (0, 2): 0.8, (1, 2): 0.8, (3, 4): 0.35}, other=-0.5)
    similarity[3, :3] = similarity[:3, 3] = 0.3
    assert merge_groups(similarity, [[t] for t in range(5)], threshold=0.3) == [[0, 1, 2], [3, 4]]
    assert merge_groups(similarity, [[0, 1, 2], [3], [4]], max_groups=2) == [[0, 1, 2], [3, 4]]
    similarity[3, :3] = similarity[:3, 3] = 0.4
    assert merge_groups(similarity, [[t] for t in range(5)], threshold=0.3) == [[0, 1, 2, 3], [4]]


def test_of_equal_pairs_the_first_is_merged():
    similarity = symmetric(4, {(0, 1): 0.5, (2, 3): 0.5})
    assert merge_groups(similarity, [[t] for t in range(4)], max_groups=3) == [[0, 1], [2], [3]]


def test_the_order_is_a_property_of_the_similarities_and_takes_one_draw():
    """Also where only the partners tell tasks apart (0 and 3); exact mirror images come in either order."""
    chain = {(0, 1): 0.5, (1, 2): 0.2, (3, 4): 0.5, (4, 5): 0.2, (2, 4): -0.3, (0, 3): 0.4}
    for similarity in (symmetric(6, chain, other=0.0), symmetric(5, {(0, 1): 0.1, (1, 2): 0.2, (3, 4): 0.3})):
        size = len(similarity)
        reference = similarity[np.ix_(*[canonical_order(similarity, np.random.RandomState(0))] * 2)]
        for seed in range(20):
            shuffle = np.random.RandomState(seed).permutation(size)
            rng, other = np.random.RandomState(seed), np.random.RandomState(seed)
            order = canonical_order(similarity[np.ix_(shuffle, shuffle)], rng)
            assert sorted(order) == list(range(size))
            assert np.array_equal(similarity[np.ix_(shuffle[order], shuffle[order])], reference)
            other.random_sample(size)
            assert rng.randint(1 << 30) == other.randint(1 << 30)
    mirrored = symmetric(2, {(0, 1): 0.5})
    assert {tuple(canonical_order(mirrored, np.random.RandomState(seed))) for seed in range(20)} == {(0, 1), (1, 0)}


def test_propagation_says_when_it_did_not_settle():
    similarity = symmetric(4, {(0, 1): 0.9, (2, 3): 0.8}, other=-0.5)
    options = dict(preference=None, damping=0.5, max_iter=200, convergence_iter=50)
    assert propagate(similarity, np.random.RandomState(0), **options) == [[0, 1], [2, 3]]
    short = {**options, 'max_iter': 2, 'convergence_iter': 1}
    assert propagate(similarity, np.random.RandomState(0), **{**short, 'convergence_iter': 15}) is None
    # Here scikit-learn gives groups, with a warning.
    hasty = {**options, 'max_iter': 60, 'convergence_iter': 60}
    assert propagate(similarity, np.random.RandomState(0), **hasty) is None
    many = propagate(similarity, np.random.RandomState(0), **{**options, 'preference': 2.0})
    assert many == [[0], [1], [2], [3]], 'a greater preference gives more groups'


def asked_of_propagation(monkeypatch, module, answer=None):
    asked = []
    monkeypatch.setattr(
        f'mtl_plugins.methods.grouping.{module}.propagate', lambda *args, **options: (asked.append(options), answer)[1]
    )
    return asked


@pytest.mark.parametrize('damping', [0.5, 0.95])
def test_affinity_propagation_damps_more_and_waits_longer_the_second_time(monkeypatch, damping):
    asked = asked_of_propagation(monkeypatch, 'affinity_propagation')
    grouper = AffinityPropagation(preference=-0.5, damping=damping, max_iter=60, convergence_iter=7)
    affinity = torch.eye(3, dtype=torch.float64)
    affinity[0, 1] = 0.5
    assert grouper(affinity, seeded()) == [[0], [1], [2]]
    common = dict(preference=-0.5, convergence_iter=7)
    assert asked == [
        dict(damping=damping, max_iter=60, **common),
        dict(damping=max(damping, 0.9), max_iter=300, **common),
    ]
    assert grouper.fallbacks == 1
    grouper(affinity, seeded())
    assert grouper.fallbacks == 2


def test_released_asks_ten_times_and_then_keeps_what_it_had(monkeypatch):
    grouper = Released()
    camps = torch.tensor([[1.0, 0.5, -0.2], [0.5, 1.0, -0.2], [-0.2, -0.2, 1.0]])
    groups = grouper(camps, seeded())
    asked = asked_of_propagation(monkeypatch, 'released')
    assert grouper(camps, seeded()) == groups
    assert [options['convergence_iter'] for options in asked] == list(range(50, 1050, 100))
    assert grouper.fallbacks == 1
    assert grouper(torch.eye(4), seeded()) == [[0], [1], [2], [3]], 'groups of three tasks are none of four'


def test_arguments_at_the_edge_of_their_range_are_taken():
    AffinityPropagation(damping=0.5, max_iter=2, convergence_iter=1, preference=0.0, max_groups=1)
    PositiveAffinity(threshold=float('inf'), max_groups=1)
    Random(1)
    Random(max_groups=1)
    assert Fixed([['a'], ['b']], max_groups=2).groups == [['a'], ['b']]
    assert Random(9)(torch.eye(3), seeded()) == [[0], [1], [2]]
    for grouper_type in (AllTasks, Singletons, Random):
        assert grouper_type()(torch.eye(1), seeded()) == [[0]]


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: AffinityPropagation(damping=1.0), 'damping must lie in'),
        (lambda: AffinityPropagation(max_iter=50, convergence_iter=50), 'convergence_iter=50 and max_iter=50'),
        (lambda: AffinityPropagation(convergence_iter=0), 'convergence_iter=0'),
        (lambda: AffinityPropagation(preference=float('nan')), 'preference must be finite'),
        (lambda: AffinityPropagation(max_groups=0), 'max_groups must be at least 1'),
        (lambda: Random(-1), 'num_groups must be at least 1'),
        (lambda: Fixed([]), 'at least one task'),
    ],
)
def test_arguments_beyond_it_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_groups_of_plain_names_are_no_groups():
    for groups in ('ab', [['a'], 'b'], ['a']):
        with pytest.raises(TypeError, match='groups must be lists of task names'):
            Fixed(groups)


def test_who_follows_the_map_needs_its_measurement():
    follow = {kind: kind.follows_affinity for kind in (AffinityPropagation, PositiveAffinity, Released)}
    assert all(follow.values())
    assert not any(kind.follows_affinity for kind in (Random, Fixed, Singletons, AllTasks))


def test_loading_scikit_learn_moves_no_global_random_state(monkeypatch):
    """It draws while it loads, which in a resumed run happens at another iteration."""
    from sklearn import cluster

    class Drawing:
        def find_spec(self, name, path=None, target=None):
            return ModuleSpec(name, self) if name == 'sklearn.cluster' else None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            random.random()
            module.affinity_propagation = cluster.affinity_propagation

    monkeypatch.delitem(sys.modules, 'sklearn.cluster')
    monkeypatch.setattr(sys, 'meta_path', [Drawing(), *sys.meta_path])
    before = random.getstate()
    AffinityPropagation()(torch.randn(4, 4, generator=seeded()), seeded())
    assert 'sklearn.cluster' in sys.modules
    assert random.getstate() == before
