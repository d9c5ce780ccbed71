"""TAG's and PTG's objectives against brute force over all groupings, ties included."""

import itertools
from functools import lru_cache

import numpy as np
import pytest
import scipy.optimize
import torch

from mtl_plugins.methods import solve_ptg, solve_tag

EVERYTHING = dict(most=100_000)
MAPS = [pytest.param(range(0, 200, 9), id='some'), pytest.param(range(200), id='all', marks=pytest.mark.slow)]


def gains(seed, num_tasks):
    """Noise; every other map has few different values, so that groupings tie."""
    matrix = torch.randn(num_tasks, num_tasks, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return matrix.round() if seed % 2 else matrix * 10.0 ** (seed % 13 - 6)


@lru_cache
def collections(num_tasks, count, overlap):
    """All sets of ``count`` different groups that hold every task, as bool arrays ``[count, K]``."""
    groups = [[bool(n >> t & 1) for t in range(num_tasks)] for n in range(1, 2**num_tasks)]
    all_of_them = np.array(list(itertools.combinations(groups, count))).reshape(-1, count, num_tasks)
    held = all_of_them.sum(1)
    return all_of_them[(held >= 1 if overlap else held == 1).all(1)]


def as_lists(collection):
    return sorted(np.flatnonzero(group).tolist() for group in collection)


def best_of(cases):
    """Those of ``(score, groups)`` that are as good as the best, as a set of texts."""
    best = max(score for score, _ in cases)
    return best, {str(groups) for score, groups in cases if score >= best - 1e-9}


def assert_same(found, cases):
    best, expected = best_of(cases)
    assert found[0].score == pytest.approx(best, rel=1e-9, abs=1e-12)
    assert {str(grouping.groups) for grouping in found} == expected


def mean_gain(matrix, group, task):
    others = [other for other in np.flatnonzero(group) if other != task]
    return np.mean([matrix[other, task] for other in others]) if others else -1e6


@pytest.mark.parametrize('maps', MAPS)
@pytest.mark.parametrize('overlap', [True, False])
def test_ptg_is_brute_force(overlap, maps):
    for seed in maps:
        num_tasks = 1 + seed % 5
        matrix = gains(seed, num_tasks)
        count = 1 + seed % (min(num_tasks, 3))
        cases = [
            (sum(float(matrix.numpy()[np.ix_(g, g)].sum()) / g.sum() for g in each), as_lists(each))
            for each in collections(num_tasks, count, overlap)
        ]
        assert_same(solve_ptg(matrix, num_groups=count, overlap=overlap, **EVERYTHING), cases)


@pytest.mark.parametrize('maps', MAPS)
@pytest.mark.parametrize('overlap', [True, False])
def test_tag_is_brute_force(overlap, maps):
    """Every group is the best one of some task, so that collections with useless groups do not count."""
    for seed in maps:
        num_tasks = 1 + seed % 5
        matrix = gains(seed, num_tasks).numpy()
        budget = 1 + seed % (2 if num_tasks == 5 else min(num_tasks, 3))
        cases = []
        for count in range(1, budget + 1):
            for each in collections(num_tasks, count, overlap):
                scores = np.array(
                    [[mean_gain(matrix, g, t) if g[t] else -np.inf for t in range(num_tasks)] for g in each]
                )
                best = scores.max(0)
                if all((row >= best - 1e-9 * num_tasks).any() for row in scores):
                    cases.append((best.mean(), as_lists(each), scores))
        most = max(score for score, *_ in cases)
        near = [(score, groups) for score, groups, scores in cases if served(scores, num_tasks * (most - 1e-9))]
        assert_same(solve_tag(torch.tensor(matrix), max_groups=budget, overlap=overlap, **EVERYTHING), near)


def served(scores, least):
    """Whether the tasks can be dealt out to the groups, none left without, at a total of at least ``least``."""
    count, num_tasks = scores.shape
    deals = (deal for deal in itertools.product(range(count), repeat=num_tasks) if len(set(deal)) == count)
    return any(sum(scores[group, task] for task, group in enumerate(deal)) >= least for deal in deals)


def test_a_group_of_one_has_the_score_that_it_is_given():
    matrix = -torch.ones(3, 3)
    assert solve_tag(matrix, single=0.0)[0].groups == [[0], [1], [2]]
    assert len(solve_tag(matrix, max_groups=1)[0].groups[0]) == 3


@pytest.mark.parametrize('overlap', [False, True])
@pytest.mark.parametrize('solve', [solve_tag, solve_ptg])
def test_without_tolerance_the_best_remains(solve, overlap):
    for matrix in (torch.zeros(4, 4), torch.arange(16.0).view(4, 4) - 7, -torch.eye(4) - 1):
        found = solve(matrix, max_groups=3, overlap=overlap, tolerance=0.0)
        assert found
        assert found[0].score == pytest.approx(solve(matrix, max_groups=3, overlap=overlap)[0].score, abs=1e-9)


def test_ties_are_cut_off_at_the_number_that_is_wanted():
    found = solve_tag(torch.zeros(5, 5), most=7)
    assert len(found) == 7
    assert {grouping.score for grouping in found} == {0.0}


def camps(*sizes):
    """Tasks of one camp help each other as much as they harm the others."""
    return 2 * torch.block_diag(*(torch.ones(size, size) for size in sizes)).double() - 1


@pytest.mark.parametrize(
    ('sizes', 'count'), [((4, 4), 16), pytest.param((4, 4, 3), 16, marks=pytest.mark.slow)], ids=['eight', 'eleven']
)
def test_all_that_tie_are_found_by_one_program(sizes, count, monkeypatch):
    """A camp of four stays whole or falls into one of three pairs of pairs, at the same mean gain."""
    seen, milp = [], scipy.optimize.milp
    monkeypatch.setattr(scipy.optimize, 'milp', lambda c, **rest: (seen.append(len(c)), milp(c, **rest))[1])
    found = solve_tag(camps(*sizes), overlap=False)
    assert {grouping.score for grouping in found} == {1.0}
    assert len({str(grouping.groups) for grouping in found}) == len(found) == count
    assert len(solve_ptg(camps(*sizes), num_groups=1 + len(sizes))) > 1
    assert seen == [2 ** sum(sizes) - 1] * 2


@pytest.mark.parametrize('overlap', [False, True])
def test_where_all_groupings_tie_none_needs_a_program_of_its_own(overlap):
    for solve in (solve_tag, solve_ptg):
        found = solve(torch.zeros(9, 9), overlap=overlap, most=50, tolerance=0.3)
        assert len({str(grouping.groups) for grouping in found}) == 50


@pytest.mark.slow
@pytest.mark.parametrize('overlap', [True, False])
@pytest.mark.parametrize('kind', ['noise', 'zeros', 'ones', 'eye'])
def test_eleven_tasks_are_solved(kind, overlap):
    """Each in some seconds, whatever ties: the bound of the program leaves little to search."""
    noise = 0.01 * torch.randn(11, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = noise if kind == 'noise' else getattr(torch, kind)(*((11,) if kind == 'eye' else (11, 11)))
    for count in (3, None):
        for best in (solve_ptg(matrix, count, overlap=overlap), solve_tag(matrix, None, count, overlap=overlap)):
            for grouping in best:
                held = sorted(task for group in grouping.groups for task in group)
                assert held == list(range(11)) or (overlap and set(held) == set(range(11)))


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: solve_ptg(torch.zeros(13, 13)), '13 tasks make 2\\^13 groups; solved exactly are at most 12'),
        (lambda: solve_ptg(torch.zeros(3, 3), num_groups=4, overlap=False), '3 tasks do not make 4 groups'),
        (lambda: solve_ptg(torch.zeros(3, 3), max_groups=0), 'max_groups must be at least 1, but got 0'),
        (lambda: solve_tag(torch.zeros(3, 3), num_groups=2), 'TAG with overlap has a budget: give max_groups'),
        (lambda: solve_ptg(torch.full((2, 2), float('nan'))), 'affinity must be finite'),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
