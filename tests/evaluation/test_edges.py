import time

import numpy as np
import pytest
from dense_samples import evaluate, sample
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from mtl_plugins.evaluation import EdgeMetric, count_matches, match_edges, thinned
from mtl_plugins.evaluation.edge_matching import offsets_within, tolerance


def _maximum(pred, target, radius):
    near = cdist(np.argwhere(pred), np.argwhere(target)) <= radius
    return int((maximum_bipartite_matching(csr_array(near.astype(np.int8)), perm_type='column') >= 0).sum())


def _contours(rng, size=(48, 64), scale=5.0, jitter=0.0):
    """Thin closed contours of a smooth random field, and the same ones seen through some jitter."""
    field = ndimage.gaussian_filter(rng.normal(size=size), scale)
    other = field + jitter * field.std() * ndimage.gaussian_filter(rng.normal(size=size), 2) * 4
    return tuple(thinned(_boundary(f > 0)) for f in (field, other))


def _boundary(mask):
    edges = np.zeros_like(mask)
    edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edges[:-1] |= mask[:-1] != mask[1:]
    return edges


@pytest.mark.parametrize('radius', [0.0, 1.0, 1.5, 2.9, 7.7])
def test_pairs_are_one_to_one_and_within_the_tolerance(radius):
    rng = np.random.default_rng(0)
    pred, target = rng.random((2, 40, 50)) < 0.2
    mine, theirs = match_edges(pred, target, radius)
    assert len(mine) == len(theirs) > 0
    assert pred[tuple(mine.T)].all()
    assert target[tuple(theirs.T)].all()
    assert len(np.unique(mine, axis=0)) == len(mine)
    assert len(np.unique(theirs, axis=0)) == len(theirs)
    assert np.linalg.norm(mine - theirs, axis=1).max() <= radius


@pytest.mark.parametrize('seed', range(12))
def test_never_more_than_the_maximum_matching(seed):
    rng = np.random.default_rng(seed)
    pred, target = rng.random((2, 24, 30)) < rng.uniform(0.02, 0.4, (2, 1, 1))
    radius = rng.uniform(0, 4)
    greedy, best = count_matches(pred, target, radius), _maximum(pred, target, radius)
    assert greedy <= best
    assert greedy >= best / 2  # any maximal matching holds half of a maximum one


@pytest.mark.parametrize('seed', range(6))
def test_close_to_the_maximum_on_contours(seed):
    pred, target = _contours(np.random.default_rng(seed), jitter=0.5)
    greedy, best = count_matches(pred, target, 2.0), _maximum(pred, target, 2.0)
    assert 0.9 * best <= greedy <= best
    assert best > 50


def test_matching_uses_each_target_once():
    pred, target = np.zeros((2, 5, 9), dtype=bool)
    pred[2, 2:7] = True
    target[2, 4] = True
    mine, _ = match_edges(pred, target, 3.0)
    assert mine.tolist() == [[2, 4]], 'the nearest pixel, and only one'


def test_borders_do_not_wrap_around():
    pred, target = np.zeros((2, 4, 6), dtype=bool)
    pred[1, 5] = target[2, 0] = True
    assert count_matches(pred, target, 2.0) == 0


def test_offsets_come_nearest_first():
    offsets = offsets_within(7.7)
    lengths = [np.hypot(*offset) for offset in offsets]
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert max(lengths) <= 7.7
    assert len(offsets) == sum(y * y + x * x <= 7.7**2 for y in range(-8, 9) for x in range(-8, 9))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r'one shape, but got \(3, 4\) and \(4, 3\)'):
        match_edges(np.ones((3, 4)), np.ones((4, 3)), 1)


def test_metric_is_the_best_pooled_f_measure():
    rng = np.random.default_rng(1)
    pairs, samples = [], []
    for index in range(3):
        target, pred = _contours(rng, jitter=0.5)
        probability = np.clip(ndimage.gaussian_filter(pred * 2.5, 1) + 0.1 * rng.random(pred.shape), 0, 1)
        gt = target.astype(np.uint8)
        gt[:10, :12] = 255
        pairs.append((gt, probability.astype(np.float32)))
        samples.append(sample('edge', *pairs[-1], index))
    best = 0.0
    for k in range(1, 20):
        hits = predicted = actual = 0
        for gt, probability in pairs:
            edges, guess = thinned(gt == 1), thinned((probability >= k / 20) & (gt != 255))
            hits += count_matches(guess, edges, 0.02 * np.hypot(*gt.shape))
            predicted += guess.sum()
            actual += edges.sum()
        if hits:
            precision, recall = hits / predicted, hits / actual
            best = max(best, 2 * precision * recall / (precision + recall))
    result = evaluate(EdgeMetric(max_dist=0.02), samples)['edge/odsF_greedy']
    assert result == pytest.approx(100 * best)
    assert 50 < result < 100


def test_perfect_and_empty_predictions():
    target, _ = _contours(np.random.default_rng(2))
    gt = target.astype(np.uint8)
    assert evaluate(EdgeMetric(), [sample('edge', gt, gt.astype(np.float32))])['edge/odsF_greedy'] == pytest.approx(100)
    assert evaluate(EdgeMetric(), [sample('edge', gt, 0 * gt.astype(np.float32))])['edge/odsF_greedy'] == 0


def test_thick_predictions_are_thinned():
    target, _ = _contours(np.random.default_rng(3))
    thick = ndimage.binary_dilation(target)
    score = evaluate(EdgeMetric(max_dist=0.02), [sample('edge', target.astype(np.uint8), thick.astype(np.float32))])
    assert score['edge/odsF_greedy'] > 95


def test_matching_a_full_size_image_is_fast():
    rng = np.random.default_rng(4)
    field = ndimage.gaussian_filter(rng.normal(size=(425, 560)), 3)
    target = thinned(_boundary(field > 0))
    maps = [thinned(_boundary(field > level * field.std())) for level in np.linspace(-1.5, 1.5, 19)]
    assert target.sum() > 10_000
    start = time.process_time()
    for pred in maps:
        match_edges(pred, target, tolerance(target.shape, 0.011))
    assert time.process_time() - start < 2
