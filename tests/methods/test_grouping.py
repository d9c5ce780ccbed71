import random

import numpy as np
import pytest
import torch

from mtl_plugins.methods import (
    AffinityPropagation,
    AllTasks,
    Fixed,
    GraphColouring,
    Grouper,
    Heterogeneous,
    PositiveAffinity,
    Random,
    Released,
    Singletons,
    normalised_similarity,
)

CLUSTERERS = [PositiveAffinity, AffinityPropagation]
BY_SIMILARITY = [*CLUSTERERS, Heterogeneous]
GROUPERS = [*BY_SIMILARITY, GraphColouring, Released, Random, Singletons, AllTasks]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_map(seed, num_tasks):
    """Maps of several kinds: noise, tasks with friends, tiny and huge scales, damaged diagonals, zeros, ties."""
    generator = seeded(seed)
    noise = torch.randn(num_tasks, num_tasks, generator=generator, dtype=torch.float64)
    kind = seed % 8
    if kind == 1:
        camp = torch.randint(0, 3, (num_tasks,), generator=generator)
        return torch.where(camp[:, None] == camp, 0.02, -0.01) + 0.003 * noise + 0.05 * torch.eye(num_tasks)
    if kind == 2:
        return noise * 10.0 ** float(torch.randint(-300, 300, (1,), generator=generator))
    if kind == 3:
        return noise - torch.diag(noise.diagonal())
    if kind == 4:
        return noise - 3 * torch.eye(num_tasks)
    if kind == 5:
        return noise.round()
    if kind == 6:
        return noise * (torch.rand(num_tasks, generator=generator) < 0.5)
    if kind == 7:
        return torch.full((num_tasks, num_tasks), float(noise[0, 0]), dtype=torch.float64)
    return 0.01 * noise + 0.03 * torch.eye(num_tasks)


def assert_partition(groups, num_tasks):
    assert all(isinstance(task, int) for group in groups for task in group)
    assert all(groups), 'a group is empty'
    assert sorted(task for group in groups for task in group) == list(range(num_tasks))
    assert groups == sorted(sorted(group) for group in groups)


def as_sets(groups):
    return {frozenset(group) for group in groups}


def relabelled(groups, order):
    """Groups of the map ``B[order][:, order]`` in terms of the numbers of ``B``."""
    return {frozenset(int(order[task]) for task in group) for group in groups}


def test_positive_affinity_gives_a_partition_on_many_maps():
    grouper, generator = PositiveAffinity(), seeded()
    for seed in range(500):
        num_tasks = 1 + seed % 32
        assert_partition(grouper(random_map(seed, num_tasks), generator), num_tasks)


@pytest.mark.parametrize('grouper_type', [*GROUPERS[1:]])
@pytest.mark.parametrize('max_groups', [None, 1, 3])
def test_every_grouper_gives_a_partition_on_any_map(grouper_type, max_groups):
    grouper, generator = grouper_type(max_groups=max_groups), seeded()
    for seed in range(96):
        num_tasks = 1 + (7 * seed) % 32
        groups = grouper(random_map(seed, num_tasks), generator)
        assert_partition(groups, num_tasks)
        assert max_groups is None or len(groups) <= max_groups


@pytest.mark.slow
@pytest.mark.parametrize('grouper_type', [AffinityPropagation, Released])
def test_affinity_propagation_gives_a_partition_on_ten_thousand_maps(grouper_type):
    grouper, generator = grouper_type(), seeded()
    for seed in range(10_000):
        num_tasks = 1 + seed % 12
        assert_partition(grouper(random_map(seed, num_tasks), generator), num_tasks)


@pytest.mark.parametrize('grouper_type', GROUPERS)
def test_equal_generators_give_equal_groups_and_one_draw_is_taken(grouper_type):
    for seed in range(24):
        affinity = random_map(seed, 6)
        first, second, reference = seeded(seed), seeded(seed), seeded(seed)
        assert grouper_type()(affinity, first) == grouper_type()(affinity, second)
        torch.randint(2**31 - 1, (1,), generator=reference)
        assert torch.equal(first.get_state(), reference.get_state())


@pytest.mark.parametrize('grouper_type', GROUPERS)
def test_the_global_random_state_is_neither_read_nor_written(grouper_type):
    affinity = random_map(0, 9)
    torch.manual_seed(1)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    groups = grouper_type()(affinity, seeded())
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    torch.manual_seed(2)
    assert grouper_type()(affinity, seeded()) == groups


@pytest.mark.parametrize('max_groups', [None, 2])
@pytest.mark.parametrize('grouper_type', BY_SIMILARITY)
def test_relabelling_the_tasks_relabels_the_groups_and_nothing_else(grouper_type, max_groups):
    generator, grouper = seeded(5), grouper_type(max_groups=max_groups)
    different = 0
    for seed in range(0, 400, 4):  # kinds without exact mirror images
        num_tasks = 2 + seed % 11
        affinity = random_map(seed, num_tasks)
        order = torch.randperm(num_tasks, generator=generator)
        groups = grouper(affinity, seeded(seed))
        again = grouper(affinity[order][:, order], seeded(seed))
        assert as_sets(groups) == relabelled(again, order)
        different += 1 < len(groups) < num_tasks
    assert different > 20, 'the test would be empty if all groups were trivial'


@pytest.mark.parametrize('grouper_type', BY_SIMILARITY)
def test_relabelling_also_holds_where_tasks_tie_but_are_no_mirror_images(grouper_type):
    # Rows 0 and 3, 1 and 4, 2 and 5 hold the same values; only what their partners look like tells them apart.
    affinity = torch.eye(6, dtype=torch.float64)
    for first, second, value in [(0, 1, 0.5), (1, 2, 0.2), (3, 4, 0.5), (4, 5, 0.2), (2, 5, -0.3), (0, 3, 0.4)]:
        affinity[first, second] = affinity[second, first] = value
    affinity[2, 2] = 0.5
    generator = seeded(1)
    groups = as_sets(grouper_type()(affinity, seeded()))
    for _ in range(50):
        order = torch.randperm(6, generator=generator)
        assert groups == relabelled(grouper_type()(affinity[order][:, order], seeded()), order)


def test_the_released_program_fails_the_relabelling():
    generator, changed = seeded(5), 0
    for seed in range(100):
        affinity = torch.rand(5, 5, generator=generator, dtype=torch.float64) * 0.02 + 0.001
        affinity += 0.03 * torch.eye(5)
        order = torch.randperm(5, generator=generator)
        groups = Released()(affinity, seeded(seed))
        again = Released()(affinity[order][:, order], seeded(seed))
        changed += as_sets(groups) != relabelled(again, order)
    assert changed >= 20


@pytest.mark.parametrize('num_tasks', [1, 2, 3, 7, 32])
@pytest.mark.parametrize('grouper_type', BY_SIMILARITY)
def test_degenerate_maps(grouper_type, num_tasks):
    single = [[task] for task in range(num_tasks)]
    together = [list(range(num_tasks))]
    ones = torch.ones(num_tasks, num_tasks, dtype=torch.float64)
    eye = torch.eye(num_tasks, dtype=torch.float64)
    cases = {
        'zero': (0 * ones, single),
        'only the own effect': (eye, single),
        'equal and positive': (ones, together),
        'equal and negative': (-ones, single),
        'friends with a negative own effect': (0.5 * ones - 2 * eye, together),
        'foes with a negative own effect': (-0.5 * ones - eye, single),
    }
    for name, (affinity, expected) in cases.items():
        assert grouper_type()(affinity, seeded()) == (together if num_tasks == 1 else expected), name


def two_camps(inside, between):
    camp = torch.tensor([0, 1, 0, 1, 0])
    affinity = torch.where(camp[:, None] == camp, inside, between).double()
    noise = torch.rand(5, 5, generator=seeded(2), dtype=torch.float64)
    return affinity + torch.eye(5) * 0.05 + 1e-4 * noise


@pytest.mark.parametrize('grouper_type', CLUSTERERS)
def test_two_camps_are_found(grouper_type):
    assert grouper_type()(two_camps(0.02, -0.01), seeded()) == [[0, 2, 4], [1, 3]]


def test_planted_camps_are_found_by_positive_affinity_always_and_by_propagation_mostly():
    found = dict.fromkeys(CLUSTERERS, 0)
    for seed in range(60):
        generator = seeded(seed)
        num_tasks = int(torch.randint(4, 12, (1,), generator=generator))
        camp = torch.randint(0, 3, (num_tasks,), generator=generator)
        noise = torch.randn(num_tasks, num_tasks, generator=generator, dtype=torch.float64)
        affinity = torch.where(camp[:, None] == camp, 0.02, -0.015) + 0.05 * torch.eye(num_tasks) + 0.003 * noise
        planted = {frozenset(torch.where(camp == number)[0].tolist()) for number in camp.unique()}
        for grouper_type in CLUSTERERS:
            found[grouper_type] += as_sets(grouper_type()(affinity, seeded())) == planted
    assert found[PositiveAffinity] == 60
    assert found[AffinityPropagation] >= 40


def test_the_sign_decides_for_positive_affinity_only():
    foes = two_camps(-0.001, -0.02)
    assert PositiveAffinity()(foes, seeded()) == [[0], [1], [2], [3], [4]]
    assert len(AffinityPropagation()(foes, seeded())) < 5


def test_positive_affinity_stops_where_the_mean_affinity_is_not_positive():
    affinity = torch.eye(3, dtype=torch.float64)
    for first, second, value in [(0, 1, 0.5), (1, 2, 0.4), (0, 2, -0.9)]:
        affinity[first, second] = affinity[second, first] = value
    assert PositiveAffinity()(affinity, seeded()) == [[0, 1], [2]]
    assert PositiveAffinity(threshold=-1.0)(affinity, seeded()) == [[0, 1, 2]]
    assert PositiveAffinity(threshold=0.6)(affinity, seeded()) == [[0], [1], [2]]


def test_positive_affinity_equals_the_agglomeration_written_out():
    from mtl_plugins.methods import normalised_similarity

    for seed in range(0, 160, 8):
        affinity = random_map(seed, 9)
        similarity = normalised_similarity(affinity)
        groups = [[task] for task in range(9)]
        while len(groups) > 1:
            pairs = [(similarity[a][:, b].mean(), a, b) for i, a in enumerate(groups) for b in groups[:i]]
            mean, first, second = max(pairs, key=lambda pair: pair[0])
            if mean <= 0:
                break
            groups = [group for group in groups if group not in (first, second)] + [first + second]
        assert as_sets(PositiveAffinity()(affinity, seeded())) == as_sets(groups)


def test_a_cap_merges_the_most_affine_groups_first():
    groups = Singletons(max_groups=4)(two_camps(0.02, -0.02), seeded())
    assert len(groups) == 4
    assert max(groups, key=len) in ([0, 2], [0, 4], [2, 4], [1, 3])
    assert Singletons(max_groups=2)(two_camps(0.02, -0.02), seeded()) == [[0, 2, 4], [1, 3]]


def test_affinity_propagation_falls_back_to_single_tasks_and_counts(monkeypatch):
    calls = []
    monkeypatch.setattr(
        'mtl_plugins.methods.grouping.affinity_propagation.propagate', lambda *args, **options: calls.append(options)
    )
    grouper = AffinityPropagation()
    assert grouper(random_map(0, 4), seeded()) == [[0], [1], [2], [3]]
    assert grouper.fallbacks == 1
    assert [options['damping'] for options in calls] == [0.5, 0.9]


def test_released_keeps_the_previous_groups_where_it_cannot_cluster():
    camps = two_camps(0.02, -0.02)
    grouper = Released()
    assert grouper(torch.zeros(5, 5), seeded()) == [[0], [1], [2], [3], [4]]
    assert grouper.fallbacks == 1
    groups = grouper(camps, seeded())
    assert 1 < len(groups) < 5
    assert grouper(torch.zeros(5, 5), seeded()) == groups
    resumed = Released()
    resumed.load_state_dict(grouper.state_dict())
    assert resumed(torch.zeros(5, 5), seeded()) == groups
    assert resumed.fallbacks == 3


def test_released_retries_with_a_longer_convergence(monkeypatch):
    asked = []

    def settles_at_the_third_attempt(similarity, rng, *, convergence_iter, **options):
        asked.append((convergence_iter, options))
        return [[0, 1], [2]] if len(asked) == 3 else None

    monkeypatch.setattr('mtl_plugins.methods.grouping.released.propagate', settles_at_the_third_attempt)
    assert Released()(torch.eye(3), seeded()) == [[0, 1], [2]]
    assert [attempt for attempt, _ in asked] == [50, 150, 250]
    assert asked[0][1] == dict(preference=None, damping=0.5, max_iter=200)


def test_fixed_groups_follow_the_names():
    grouper = Fixed([['c', 'a'], ['b']])
    with pytest.raises(RuntimeError, match=r'call bind\(tasks\) first'):
        grouper(torch.eye(3), seeded())
    grouper.bind(['a', 'b', 'c'])
    assert grouper(torch.eye(3), seeded()) == [[0, 2], [1]]
    grouper.bind(['c', 'b', 'a'])
    assert grouper(torch.eye(3), seeded()) == [[0, 2], [1]]
    grouper.bind(['b', 'a', 'c'])
    assert grouper(torch.eye(3), seeded()) == [[0], [1, 2]]


def test_random_groups_have_the_asked_number_and_even_sizes():
    for num_groups in (1, 3, 5, 9):
        groups = Random(num_groups)(torch.eye(7), seeded(num_groups))
        assert len(groups) == min(num_groups, 7)
        assert max(map(len, groups)) - min(map(len, groups)) <= 1
    generator, grouper = seeded(), Random(max_groups=3)
    drawn = [grouper(torch.eye(7), generator) for _ in range(60)]
    assert {len(groups) for groups in drawn} == {1, 2, 3}
    assert len({str(groups) for groups in drawn}) > 20
    # Whatever the map says, also where more groups might be drawn than are allowed.
    maps = (torch.eye(6), torch.ones(6, 6) - 2 * torch.eye(6).roll(3, 1))
    for number in range(20):
        first, second = (grouper(affinity, seeded(number)) for affinity in maps)
        assert first == second


@pytest.mark.parametrize(
    ('make', 'error', 'words'),
    [
        (lambda: Singletons(max_groups=0), ValueError, 'Singletons: max_groups must be at least 1 or None, but got 0'),
        (lambda: PositiveAffinity(threshold=float('nan')), ValueError, 'threshold must be a number'),
        (lambda: AffinityPropagation(damping=0.4), ValueError, r'damping must lie in \[0.5, 1\), but got 0.4'),
        (lambda: AffinityPropagation(convergence_iter=300), ValueError, 'convergence_iter=300 and max_iter=200'),
        (lambda: AffinityPropagation(preference=float('inf')), ValueError, 'preference must be finite or None'),
        (lambda: Random(0), ValueError, 'num_groups must be at least 1'),
        (lambda: Random(2, max_groups=3), ValueError, 'give num_groups or max_groups'),
        (lambda: Fixed(['a', 'b']), TypeError, 'lists of task names'),
        (lambda: Fixed([['a'], []]), ValueError, 'at least one task'),
        (lambda: Fixed([['a'], ['a']]), ValueError, 'occur once'),
        (lambda: Fixed([['a'], ['b']], max_groups=1), ValueError, '2 groups were given, but max_groups=1'),
        (lambda: Fixed([['depht'], ['edge']]).bind(['depth', 'edge']), ValueError, "'depht': did you mean 'depth'?"),
        (lambda: Fixed([['depth']]).bind(['depth', 'edge']), ValueError, 'edge is in none'),
        (lambda: Singletons().bind(['a', 'a']), ValueError, "'a' occurs again"),
        (lambda: Singletons().bind('ab'), TypeError, 'sequence of names'),
        (lambda: Singletons()(torch.zeros(2, 3), seeded()), ValueError, r'shape \(K, K\)'),
        (lambda: Singletons()(torch.zeros(0, 0), seeded()), ValueError, r'shape \(K, K\)'),
        (lambda: Singletons()([[1.0]], seeded()), TypeError, 'must be a torch.Tensor'),
        (lambda: PositiveAffinity()(torch.full((2, 2), torch.inf), seeded()), ValueError, 'must be finite'),
    ],
)
def test_wrong_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_map_of_another_size_than_the_bound_tasks_is_refused():
    grouper = Singletons()
    grouper.bind(3)
    with pytest.raises(ValueError, match='bound to 3 tasks, but the affinity map has 2 rows'):
        grouper(torch.eye(2), seeded())


def test_a_grouper_that_gives_no_partition_is_caught():
    class Careless(Grouper):
        def _partition(self, affinity, rng):
            return [[0], [0, 1]]

    with pytest.raises(RuntimeError, match='no partition of 2 tasks'):
        Careless()(torch.eye(2), seeded())


@pytest.mark.parametrize('grouper_type', GROUPERS)
def test_state_is_plain_and_survives_a_round_trip(grouper_type, tmp_path):
    grouper = grouper_type()
    grouper(random_map(0, 5), seeded())
    torch.save(grouper.state_dict(), tmp_path / 'state.pth')
    fresh = grouper_type()
    fresh.load_state_dict(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert fresh.state_dict() == grouper.state_dict()
    assert repr(fresh) == repr(grouper)


def partitions(tasks, count):
    """All partitions of a list into ``count`` groups."""
    if len(tasks) < count or count == 0:
        return [[]] if not tasks and count == 0 else []
    first, *rest = tasks
    alone = [[[first], *groups] for groups in partitions(rest, count - 1)]
    return alone + [
        [*groups[:n], [first, *groups[n]], *groups[n + 1 :]] for groups in partitions(rest, count) for n in range(count)
    ]


def inside(similarity, groups):
    return sum(similarity[i, j].item() for group in groups for i in group for j in group if i < j)


def test_heterogeneous_groups_have_the_least_similarity_inside():
    """Exactly, against all partitions; M as affinity propagation finds it, or as given."""
    for seed in range(60):
        num_tasks = 2 + seed % 6
        affinity = random_map(seed, num_tasks)
        similarity = normalised_similarity(affinity)
        found = Heterogeneous()(affinity, seeded(seed))
        assert len(found) == len(AffinityPropagation()(affinity, seeded(seed)))
        for groups in [found, *(Heterogeneous(num_groups=m)(affinity, seeded()) for m in range(1, num_tasks + 1))]:
            least = min(inside(similarity, each) for each in partitions(list(range(num_tasks)), len(groups)))
            assert inside(similarity, groups) == pytest.approx(least, abs=1e-9)


def test_many_heterogeneous_groups_are_better_than_chance_and_no_single_move_is():
    for seed in range(8):
        affinity = random_map(seed, 14)
        similarity = normalised_similarity(affinity)
        groups = Heterogeneous(num_groups=4)(affinity, seeded())
        assert len(groups) == 4
        value = inside(similarity, groups)
        assert value <= min(inside(similarity, Random(num_groups=4)(affinity, seeded(n))) for n in range(20)) + 1e-9
        for source, target in ((a, b) for a in groups for b in groups if a is not b and len(a) > 1):
            for task in source:
                others = [g for g in groups if g is not source and g is not target]
                moved = [*others, [t for t in source if t != task], [*target, task]]
                assert inside(similarity, moved) >= value - 1e-6


def test_heterogeneous_takes_one_number_of_groups():
    assert len(Heterogeneous(num_groups=9)(random_map(0, 4), seeded())) == 4
    with pytest.raises(ValueError, match='Heterogeneous: num_groups must be at least 1 or None, but got 0'):
        Heterogeneous(num_groups=0)
    with pytest.raises(ValueError, match='Heterogeneous: give num_groups or max_groups'):
        Heterogeneous(num_groups=2, max_groups=2)


def test_graph_colouring_is_welsh_and_powell_written_out():
    """No foes share a group; the first colour that is free, the tasks with most conflicts first."""
    for seed in range(300):
        num_tasks = 1 + seed % 9
        noise = torch.randn(num_tasks, num_tasks, generator=seeded(seed), dtype=torch.float64)
        affinity = (noise + noise.T) / 4
        tau = 0.1 + (seed % 7) / 10
        groups = GraphColouring(tau_start=tau, tau_end=tau)(affinity, seeded(seed))
        foes = [{j for j in range(num_tasks) if j != i and -affinity[i, j] > tau} for i in range(num_tasks)]
        rows = [sorted(row) for row in affinity.tolist()]
        taken = {}
        for task in sorted(range(num_tasks), key=lambda t: (-len(foes[t]), rows[t])):
            taken[task] = next(c for c in range(num_tasks) if all(taken.get(foe) != c for foe in foes[task]))
        assert as_sets(groups) == {frozenset(t for t in taken if taken[t] == c) for c in taken.values()}
        assert len(groups) <= 1 + max(map(len, foes))


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(tau_start=0.0), 'tau_start must be above 0'),
        (dict(tau_end=float('nan')), 'tau_end must be above 0'),
        (dict(wait=-1), 'wait must not be'),
        (dict(anneal=-1), 'anneal must not be'),
    ],
)
def test_graph_colouring_refuses(option, message):
    with pytest.raises(ValueError, match=f'GraphColouring: {message}'):
        GraphColouring(**option)
