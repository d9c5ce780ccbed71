import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from mtl_plugins.evaluation import EdgeMetric, count_exact_matches, count_matches, match_edges, thinned
from mtl_plugins.evaluation.edges import count_bsds_matches, offsets_within, tolerance
from mtl_plugins.evaluation.edges.exact import CHUNK

from .edge_maps import NYUD_SIZE, PHOTOS, boundary, contours, photo_pair, slow_bsds, slow_maximum

PAIRS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)
RADII = st.one_of(st.floats(0, 5), st.integers(0, 5).map(float), st.sampled_from([2**0.5, 5**0.5, 8**0.5]))


@given(PAIRS, RADII)
@settings(max_examples=200, deadline=None)
def test_exact_equals_the_slow_search(maps, radius):
    assert count_exact_matches(*maps, radius) == slow_maximum(*maps, radius)


@given(PAIRS, st.floats(0.5, 5))
@settings(max_examples=100, deadline=None)
def test_exact_equals_the_assignment_of_least_cost(maps, radius):
    assert count_exact_matches(*maps, radius) == slow_bsds(*maps, radius)


@given(PAIRS, RADII)
@settings(max_examples=150, deadline=None)
def test_greedy_pairs_are_one_to_one_near_and_maximal(maps, radius):
    pred, target = maps
    mine, theirs = match_edges(pred, target, radius)
    assert len(mine) == len(theirs) == count_matches(pred, target, radius)
    assert pred[tuple(mine.T)].all()
    assert target[tuple(theirs.T)].all()
    assert len(np.unique(mine, axis=0)) == len(mine)
    assert len(np.unique(theirs, axis=0)) == len(theirs)
    assert (np.linalg.norm(mine - theirs, axis=1) <= radius * (1 + 1e-9)).all()
    rest, others = pred.copy(), target.copy()
    rest[tuple(mine.T)] = others[tuple(theirs.T)] = False
    assert count_matches(rest, others, radius) == 0, 'no pair is left that could be made'


@given(PAIRS, RADII)
@settings(max_examples=150, deadline=None)
def test_greedy_is_between_half_of_the_maximum_and_the_maximum(maps, radius):
    greedy, best = count_matches(*maps, radius), count_exact_matches(*maps, radius)
    assert best / 2 <= greedy <= best <= min(maps[0].sum(), maps[1].sum())


@given(PAIRS, RADII)
@settings(max_examples=100, deadline=None)
def test_exact_is_symmetric(maps, radius):
    pred, target = maps
    count = count_exact_matches(pred, target, radius)
    assert count == count_exact_matches(target, pred, radius)
    assert count == count_exact_matches(pred[:, ::-1], target[:, ::-1], radius)
    assert count == count_exact_matches(pred.T, target.T, radius)
    assert count <= count_exact_matches(pred, target, radius + 1)


@given(arrays(bool, (9, 9)), RADII)
@settings(max_examples=50, deadline=None)
def test_equal_maps_match_in_full(edges, radius):
    assert count_matches(edges, edges, radius) == count_exact_matches(edges, edges, radius) == edges.sum()


@pytest.mark.parametrize('matcher', [count_matches, count_exact_matches])
def test_empty_maps(matcher):
    empty, full = np.zeros((6, 7), dtype=bool), np.ones((6, 7), dtype=bool)
    assert matcher(empty, full, 2) == matcher(full, empty, 2) == matcher(empty, empty, 2) == 0


@pytest.mark.parametrize('matcher', [count_matches, count_exact_matches])
def test_a_target_is_used_once(matcher):
    pred, target = np.zeros((2, 5, 9), dtype=bool)
    pred[2, 2:7] = True
    target[2, 4] = True
    assert matcher(pred, target, 3.0) == matcher(target, pred, 3.0) == 1


def test_exact_re_pairs_what_greedy_pairs_badly():
    pred, target = np.zeros((2, 1, 8), dtype=bool)
    pred[0, [1, 3]] = True
    target[0, [2, 5]] = True
    assert count_matches(pred, target, 2.0) == 1, '3 takes 2 or 1 takes 2; one of both leaves 5 alone'
    assert count_exact_matches(pred, target, 2.0) == 2


def test_the_nearest_is_taken():
    pred, target = np.zeros((2, 5, 9), dtype=bool)
    pred[2, 2:7] = True
    target[2, 4] = True
    assert match_edges(pred, target, 3.0)[0].tolist() == [[2, 4]]


@pytest.mark.parametrize('matcher', [count_matches, count_exact_matches])
def test_borders_do_not_wrap_around(matcher):
    pred, target = np.zeros((2, 4, 6), dtype=bool)
    pred[1, 5] = target[2, 0] = True
    assert matcher(pred, target, 2.0) == 0


def test_offsets_come_nearest_first():
    offsets = offsets_within(7.7)
    lengths = [np.hypot(*offset) for offset in offsets]
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert max(lengths) <= 7.7
    assert len(offsets) == sum(y * y + x * x <= 7.7**2 for y in range(-8, 9) for x in range(-8, 9))


@pytest.mark.parametrize('matcher', [count_matches, count_exact_matches])
def test_shapes_must_agree(matcher):
    with pytest.raises(ValueError, match=r'one shape, but got \(3, 4\) and \(4, 3\)'):
        matcher(np.ones((3, 4)), np.ones((4, 3)), 1)


@pytest.mark.parametrize('seed', range(4))
def test_exact_equals_the_slow_search_on_contours(seed):
    pred, target = contours(np.random.default_rng(seed), jitter=0.5)
    for radius in (1.0, 2.0, 3.5):
        best = slow_maximum(pred, target, radius)
        assert count_exact_matches(pred, target, radius) == best > 50
        assert 0.85 * best <= count_matches(pred, target, radius) <= best


def test_more_pixels_than_are_looked_up_at_once():
    rng = np.random.default_rng(0)
    pred, target = rng.random((2, 200, 260)) < 0.1
    assert min(pred.sum(), target.sum()) > CHUNK
    # Two halves that are too far from each other to matter to one another.
    halves = [np.s_[:98], np.s_[102:]]
    pred[98:102] = target[98:102] = False
    counts = [count_exact_matches(pred[half], target[half], 3.0) for half in halves]
    assert count_exact_matches(pred, target, 3.0) == sum(counts)


def test_matching_a_full_size_image_is_fast():
    field = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=NYUD_SIZE), 3)
    target = thinned(boundary(field > 0))
    maps = [thinned(boundary(field > level * field.std())) for level in np.linspace(-1.5, 1.5, 19)]
    assert target.sum() > 10_000
    radius = tolerance(target.shape, 0.011)
    for matcher, limit in ((count_matches, 2), (count_exact_matches, 20)):
        start = time.process_time()
        for pred in maps:
            matcher(pred, target, radius)
        assert time.process_time() - start < limit, matcher


@pytest.mark.parametrize('name', PHOTOS[:3])
def test_the_programs_agree_on_photographs(name):
    pytest.importorskip('pyEdgeEval', reason="the extra 'edges' is not installed")
    target, score = photo_pair(name, 'gradient', size=(213, 280))
    target = thinned(target)
    radius = tolerance(target.shape, 0.011)
    for threshold in (0.2, 0.5):
        pred = thinned(score >= threshold)
        exact, theirs = count_exact_matches(pred, target, radius), count_bsds_matches(pred, target, radius)
        assert 0.995 * exact <= theirs <= exact


@given(PAIRS, st.floats(0.5, 4))
@settings(max_examples=60, deadline=None)
def test_the_programs_agree_on_small_maps(maps, radius):
    pytest.importorskip('pyEdgeEval', reason="the extra 'edges' is not installed")
    exact, theirs = count_exact_matches(*maps, radius), count_bsds_matches(*maps, radius)
    assert exact - 2 <= theirs <= exact


def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyEdgeEval', None)
    monkeypatch.setitem(sys.modules, 'pyEdgeEval._lib.correspond_pixels', None)
    with pytest.raises(ImportError, match=r"pip install 'mtl-plugins\[edges\]'.*pyEdgeEval==0.2.8.*matcher 'exact'"):
        EdgeMetric(matcher='bsds')
    EdgeMetric(matcher='exact')
