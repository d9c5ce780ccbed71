import logging

import numpy as np
import pytest
from mmengine.logging import MMLogger
from scipy import ndimage
from skimage.morphology import thin

from mtl_plugins.evaluation import EdgeMetric, count_matches
from mtl_plugins.evaluation.edges import THRESHOLDS, suppress_non_maxima

from .dense_samples import evaluate, sample
from .edge_maps import PHOTOS, contours, photo_pair, slow_maximum


@pytest.fixture
def messages(caplog):
    name = f'edges-test-{id(caplog)}'
    logger = MMLogger.get_instance(name)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def _pairs(n=3, seed=1, size=(48, 64)):
    """Targets with a corner that is not labelled, and probabilities near them."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(n):
        target, pred = contours(rng, size, jitter=0.5)
        probability = np.clip(ndimage.gaussian_filter(pred * 2.5, 1) + 0.1 * rng.random(pred.shape), 0, 1)
        gt = target.astype(np.uint8)
        gt[:10, :12] = 255
        pairs.append((gt, probability.astype(np.float32)))
    return pairs


def _samples(pairs):
    return [sample('edge', *pair, index) for index, pair in enumerate(pairs)]


def _slow_odsf(pairs, matcher, thresholds, max_dist, nms=False):
    best = 0.0
    for threshold in thresholds:
        hits = predicted = actual = 0
        for gt, probability in pairs:
            guess = suppress_non_maxima(probability) > threshold if nms else probability >= threshold
            edges, guess = thin(gt == 1), thin(guess & (gt != 255))
            hits += matcher(guess, edges, max_dist * np.hypot(*gt.shape))
            predicted += guess.sum()
            actual += edges.sum()
        if hits:
            precision, recall = hits / predicted, hits / actual
            best = max(best, 2 * precision * recall / (precision + recall))
    return 100 * best


@pytest.mark.parametrize(('thresholds', 'nms'), [(19, False), (19, True), (101, True), ([0.2, 0.35], False)])
def test_metric_is_the_best_pooled_f_measure(thresholds, nms):
    pairs = _pairs()
    result = evaluate(EdgeMetric(max_dist=0.02, thresholds=thresholds, nms=nms), _samples(pairs))
    values = THRESHOLDS.get(thresholds) if isinstance(thresholds, int) else thresholds
    exact = _slow_odsf(pairs, slow_maximum, values, 0.02, nms)
    greedy = _slow_odsf(pairs, count_matches, values, 0.02, nms)
    assert result == pytest.approx({'edge/odsF': exact, 'edge/odsF_greedy': greedy})
    assert 50 < greedy <= exact < 100


def test_thresholds():
    np.testing.assert_allclose(THRESHOLDS[19], np.arange(1, 20) / 20)
    np.testing.assert_allclose(THRESHOLDS[101], [0.001, *np.arange(1, 100) / 100, 0.999])


@pytest.mark.parametrize('matcher', ['exact', 'greedy'])
def test_one_matcher_gives_one_number(matcher):
    samples = _samples(_pairs())
    both = evaluate(EdgeMetric(), samples)
    metric = EdgeMetric(matcher=matcher)
    name = {'exact': 'odsF', 'greedy': 'odsF_greedy'}[matcher]
    assert evaluate(metric, samples) == {f'edge/{name}': both[f'edge/{name}']}
    assert metric.describe(name) == ('%', True)


def test_pooled_over_images_not_averaged():
    line = np.zeros((30, 30), dtype=np.uint8)
    line[15, 5:25] = 1
    nothing = np.zeros((30, 30), dtype=np.float32)
    samples = [sample('edge', line, line.astype(np.float32), 0), sample('edge', line, nothing, 1)]
    assert evaluate(EdgeMetric(), samples)['edge/odsF'] == pytest.approx(100 * 2 * 1 * 0.5 / 1.5)


def test_perfect_and_empty_predictions():
    gt = contours(np.random.default_rng(2))[0].astype(np.uint8)
    for matcher in ('odsF', 'odsF_greedy'):
        name = f'edge/{matcher}'
        assert evaluate(EdgeMetric(), [sample('edge', gt, gt.astype(np.float32))])[name] == pytest.approx(100)
        assert evaluate(EdgeMetric(), [sample('edge', gt, 0 * gt.astype(np.float32))])[name] == 0


def test_thick_predictions_are_thinned():
    target, _ = contours(np.random.default_rng(3))
    thick = ndimage.binary_dilation(target)
    score = evaluate(EdgeMetric(max_dist=0.02), [sample('edge', target.astype(np.uint8), thick.astype(np.float32))])
    assert score['edge/odsF'] >= score['edge/odsF_greedy'] > 95


def test_nothing_counts_without_label():
    gt, probability = _pairs(1)[0]
    # A frame at the right and bottom, as padding leaves it, with edges on both sides that nobody labelled.
    inside = np.s_[: gt.shape[0], : gt.shape[1]]
    valid = np.zeros((70, 90), dtype=bool)
    valid[inside] = gt != 255
    score, edges = np.random.default_rng(0).random(valid.shape).astype(np.float32), np.ones_like(valid)
    score[inside], edges[inside] = probability, gt == 1
    for max_dist in (0.02, 0.1):
        counter = EdgeMetric(max_dist=max_dist * np.hypot(*gt.shape) / np.hypot(*valid.shape)).counter
        framed = counter(score, edges, valid)
        alone = EdgeMetric(max_dist=max_dist).counter(probability, gt == 1, gt != 255)
        for name in alone:
            np.testing.assert_array_equal(framed[name], alone[name], err_msg=name)


def test_without_labels_or_edges_there_is_no_number():
    score = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    for gt in (np.full((20, 30), 255, dtype=np.uint8), np.zeros((20, 30), dtype=np.uint8)):
        assert all(np.isnan(value) for value in evaluate(EdgeMetric(), [sample('edge', gt, score)]).values())


def test_an_image_without_edges_counts_against_precision():
    gt, probability = _pairs(1)[0]
    empty = np.zeros_like(gt)
    alone = evaluate(EdgeMetric(max_dist=0.02), [sample('edge', gt, probability)])
    both = evaluate(EdgeMetric(max_dist=0.02), [sample('edge', gt, probability), sample('edge', empty, probability, 1)])
    assert both['edge/odsF'] < alone['edge/odsF'] - 10


@pytest.mark.parametrize('nms', [False, True])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_broken_predictions_are_not_a_number(value, nms):
    gt, probability = _pairs(1)[0]
    probability = probability.copy()
    probability[30, 30] = value
    assert gt[30, 30] != 255
    result = evaluate(EdgeMetric(nms=nms), [sample('edge', gt, probability)])
    assert all(np.isnan(value) for value in result.values())
    probability[30, 30], probability[2, 2] = 0, value
    assert np.isfinite(evaluate(EdgeMetric(nms=nms), [sample('edge', gt, probability)])['edge/odsF'])


@pytest.mark.parametrize('kind', ['moved', 'gradient'])
def test_both_matchers_on_photographs(kind):
    """Greedy is below exact; at the size of NYUD-v2 and with its tolerance, by less than 6 points."""
    samples = []
    for index, name in enumerate(PHOTOS):
        target, score = photo_pair(name, kind)
        samples.append(sample('edge', target.astype(np.uint8), score, index))
    result = evaluate(EdgeMetric(max_dist=0.011, thresholds=[0.1, 0.2, 0.3, 0.4, 0.5]), samples)
    exact, greedy = result['edge/odsF'], result['edge/odsF_greedy']
    print(f'{kind}: odsF {exact:.2f}, odsF_greedy {greedy:.2f}, difference {exact - greedy:.2f}')
    assert 60 < greedy < exact < greedy + 6


def test_chosen_images_only(tmp_path, messages):
    samples = _samples(_pairs(4))
    chosen = evaluate(EdgeMetric(), [samples[1], samples[3]])
    assert evaluate(EdgeMetric(image_ids=['image_1', 'image_3']), samples) == chosen
    assert not messages.records
    for content in ('image_1\nimage_3\n', 'image_1\rimage_3', '\r\n image_1 \r\n\r\nimage_3\r\n'):
        path = tmp_path / 'ids.txt'
        path.write_bytes(content.encode())
        assert evaluate(EdgeMetric(image_ids=path), samples) == chosen
    assert evaluate(EdgeMetric(), samples) != chosen


def test_missing_chosen_images_are_told(messages):
    samples = _samples(_pairs(2))
    result = evaluate(EdgeMetric(image_ids=['image_1', 'image_7']), samples)
    assert np.isfinite(result['edge/odsF'])
    (record,) = messages.records
    assert record.levelno == logging.WARNING
    assert "1 of the 2 images in image_ids were evaluated (with 'edge' labels)" in record.message


def test_images_without_a_name_cannot_be_chosen():
    nameless = {'gt_edge': dict(data=np.zeros((1, 4, 4))), 'pred_edge': dict(data=np.zeros((1, 4, 4)))}
    with pytest.raises(ValueError, match=r"neither 'sample_id' nor 'img_path'.*meta_keys"):
        EdgeMetric(image_ids=['a']).process(None, [nameless])


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(matcher='best'), ValueError, r"EdgeMetric: matcher must be of exact, greedy, bsds.*\('best',\)"),
        (dict(matcher=[]), ValueError, 'matcher must be of'),
        (dict(thresholds=20), ValueError, 'thresholds must be 19 or 101 or a list.*but got 20'),
        (dict(thresholds=[]), ValueError, 'thresholds must be'),
        (dict(thresholds=[0.5, 0.5]), ValueError, 'increasing'),
        (dict(thresholds=[0.0, 0.5]), ValueError, 'between 0 and 1'),
        (dict(thresholds=[0.5, 1.0]), ValueError, 'between 0 and 1'),
        (dict(max_dist=7.7), ValueError, r'max_dist must be a number in \[0, 1\)'),
        (dict(num_workers=-1), ValueError, 'num_workers must be an integer >= 0 or None'),
        (dict(start_method='thread'), ValueError, 'start_method must be one of'),
        (dict(image_ids=[]), ValueError, 'the list has no ids'),
        (dict(image_ids=['a', 'a', 'b']), ValueError, 'has 1 ids twice'),
        (dict(image_ids='nowhere/ids.txt'), FileNotFoundError, 'nowhere/ids.txt, which does not exist'),
        (dict(task='depth'), ValueError, 'kind binary'),
    ],
)
def test_refused_options(options, error, message):
    with pytest.raises(error, match=message):
        EdgeMetric(**options)
