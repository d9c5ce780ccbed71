"""Each metric against an obvious implementation with loops over pixels."""

import math

import numpy as np
import pytest
import torch

from mtl_plugins.evaluation import (
    DepthErrorMetric,
    EdgeMetric,
    NormalsMetric,
    PerImageSaliencyMetric,
    RegressionMetric,
    SaliencyMetric,
    SegmentationMetric,
)
from mtl_plugins.registry import METRICS
from mtl_plugins.task_specs import TASK_SPECS

from .dense_samples import META, SIZE, evaluate, random_pair, sample

RNG_SEED = 20250


def _pairs(kind, n=3, **kwargs):
    rng = np.random.default_rng(RNG_SEED)
    return [random_pair(kind, rng, **kwargs) for _ in range(n)]


def _samples(task, pairs):
    return [sample(task, gt, pred, index) for index, (gt, pred) in enumerate(pairs)]


def _pixels(pairs):
    for gt, pred in pairs:
        for y in range(gt.shape[1]):
            for x in range(gt.shape[2]):
                yield gt[:, y, x].astype(float), pred[:, y, x].astype(float)


def test_segmentation():
    pairs = _pairs('classes')
    names = META['classes']['semseg']
    inter, union, right, count = [0] * len(names), [0] * len(names), 0, 0
    for (gt,), (pred,) in _pixels(pairs):
        if gt == 255:
            continue
        count += 1
        right += gt == pred
        for c in range(len(names)):
            inter[c] += gt == c and pred == c
            union[c] += c in (gt, pred)
    ious = [100 * i / u for i, u in zip(inter, union) if u]
    result = evaluate(SegmentationMetric('semseg', per_class=True), _samples('semseg', pairs))
    assert result['semseg/mIoU'] == pytest.approx(sum(ious) / len(ious))
    assert result['semseg/aAcc'] == pytest.approx(100 * right / count)
    assert result['semseg/IoU.chair'] == pytest.approx(100 * inter[2] / union[2])
    assert math.isnan(result['semseg/IoU.never'])
    zero = evaluate(SegmentationMetric('semseg', absent='zero'), _samples('semseg', pairs))
    assert len(ious) == 4
    assert zero['semseg/mIoU'] == pytest.approx(sum(ious) / 5)


def test_a_class_that_is_only_predicted_counts_as_zero():
    gt, pred = np.zeros((1, 4, 4), np.uint8), np.zeros((1, 4, 4), np.int64)
    pred[0, 0, 0] = 1
    assert evaluate(SegmentationMetric(), [sample('semseg', gt, pred)])['semseg/mIoU'] == pytest.approx((15 / 16) * 50)


def test_depth():
    pairs = _pairs('depth')
    errors = [(p, t) for (t,), (p,) in _pixels(pairs) if t > 0]
    n = len(errors)
    result = evaluate(DepthErrorMetric(), _samples('depth', pairs))
    assert result['depth/RMSE'] == pytest.approx(math.sqrt(sum((p - t) ** 2 for p, t in errors) / n))
    assert result['depth/abs_rel'] == pytest.approx(sum(abs(p - t) / t for p, t in errors) / n)
    for k in (1, 2, 3):
        hits = sum(p > 0 and max(p / t, t / p) < 1.25**k for p, t in errors)
        assert result[f'depth/delta{k}'] == pytest.approx(100 * hits / n)
    near = [(p, t) for p, t in errors if t <= 3]
    capped = evaluate(DepthErrorMetric(max_depth=3), _samples('depth', pairs))
    assert capped['depth/RMSE'] == pytest.approx(math.sqrt(sum((p - t) ** 2 for p, t in near) / len(near)))


def test_normals():
    pairs = _pairs('normals')
    angles = []
    for t, p in _pixels(pairs):
        if np.any(t != 0):
            cosine = np.dot(t, p) / np.linalg.norm(t) / np.linalg.norm(p)
            angles.append(math.degrees(math.acos(np.clip(cosine, -1, 1))))
    result = evaluate(NormalsMetric(), _samples('normals', pairs))
    assert result['normals/mean'] == pytest.approx(np.mean(angles), abs=1e-4)
    assert result['normals/median'] == pytest.approx(np.median(angles), abs=0.1)
    for limit in ('11.25', '22.5', '30'):
        assert result[f'normals/{limit}'] == pytest.approx(100 * np.mean(np.array(angles) < float(limit)))


@pytest.mark.parametrize('degrees', [0.0, 1e-4, 45.0, 90.0, 179.999, 180.0])
def test_angles_are_exact_where_the_arc_cosine_is_not(degrees):
    gt, pred = np.zeros((2, 3, 2, 2), np.float64)
    gt[2] = 1
    pred[2], pred[0] = 5 * math.cos(math.radians(degrees)), 5 * math.sin(math.radians(degrees))
    assert evaluate(NormalsMetric(), [sample('normals', gt, pred)])['normals/mean'] == pytest.approx(degrees, abs=1e-7)


def test_a_zero_normal_is_90_degrees_off():
    gt = np.zeros((3, 2, 2), np.float32)
    gt[1] = 1
    assert evaluate(NormalsMetric(), [sample('normals', gt, gt * 0)])['normals/mean'] == pytest.approx(90)


@pytest.mark.parametrize('quirk', [False, True])
def test_saliency(quirk):
    pairs = _pairs('binary')
    pixels = [(t, 1 / (1 + math.exp(-p)) if quirk else p) for (t,), (p,) in _pixels(pairs) if t != 255]
    best_f, best_iou = 0, 0
    for k in range(1, 20):
        hit = sum(t == 1 and p >= k / 20 for t, p in pixels)
        predicted = sum(p >= k / 20 for t, p in pixels)
        actual = sum(t == 1 for t, p in pixels)
        if hit:
            precision, recall = hit / predicted, hit / actual
            best_f = max(best_f, 1.3 * precision * recall / (0.3 * precision + recall))
        union = predicted + actual - hit
        rest = len(pixels) - union
        best_iou = max(best_iou, (hit / union + rest / (len(pixels) - hit)) / 2)
    result = evaluate(SaliencyMetric(released_sigmoid_quirk=quirk), _samples('sal', pairs))
    assert result['sal/maxF'] == pytest.approx(100 * best_f)
    assert result['sal/mIoU'] == pytest.approx(100 * best_iou)


def test_the_sigmoid_quirk_leaves_four_thresholds():
    gt = np.array([[[1, 0]]], np.uint8)
    pred = np.array([[[0.95, 0.90]]], np.float32)
    apart = evaluate(SaliencyMetric(), [sample('sal', gt, pred)])['sal/maxF']
    blurred = evaluate(SaliencyMetric(released_sigmoid_quirk=True), [sample('sal', gt, pred)])['sal/maxF']
    assert apart == pytest.approx(100)
    assert blurred == pytest.approx(100 * 1.3 * 0.5 / (0.3 * 0.5 + 1))


@pytest.mark.parametrize('channels', [1, 2, 3])
def test_regression(channels):
    task = {1: 'edge_texture', 2: 'principal_curvature', 3: 'segment_unsup2d'}[channels]
    pairs = _pairs('regression', channels=channels)
    errors = [d for t, p in _pixels(pairs) if not np.isnan(t).any() for d in p - t]
    result = evaluate(RegressionMetric(task), _samples(task, pairs))
    assert result[f'{task}/L1'] == pytest.approx(np.mean(np.abs(errors)))
    assert result[f'{task}/RMSE'] == pytest.approx(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.parametrize('task', TASK_SPECS)
def test_two_halves_make_the_whole(task):
    spec = TASK_SPECS[task]
    rng = np.random.default_rng(RNG_SEED)
    pairs = [random_pair(spec.kind, rng, channels=spec.channels or 1) for _ in range(5)]
    pairs[3] = (None, pairs[3][1])
    samples = _samples(task, pairs)
    meta = dict(classes=dict.fromkeys(TASK_SPECS, META['classes']['semseg']))
    whole, first, second = (METRICS.build(dict(task=task, **spec.metric)) for _ in range(3))
    for metric, part in ((whole, samples), (first, samples[::2]), (second, samples[1::2])):
        metric.dataset_meta = meta
        metric.process(None, [one.to_dict() for one in part])
    assert len(whole.results) == 5, 'one entry per image, so that MMEngine can cut the padding off'
    interleaved = [entry for pair in zip(first.results, [*second.results, 'padding']) for entry in pair][:5]
    merged, direct = whole.compute_metrics(interleaved), whole.compute_metrics(whole.results)
    assert merged == pytest.approx(direct)
    assert spec.headline in direct
    assert set(direct) == set(whole.entries)
    assert not math.isnan(direct[spec.headline])


@pytest.mark.parametrize('task', TASK_SPECS)
@pytest.mark.parametrize('case', ['nothing labelled', 'no task', 'no sample'])
def test_nothing_to_measure_is_nan(task, case):
    spec = TASK_SPECS[task]
    gt, pred = random_pair(spec.kind, np.random.default_rng(0), channels=spec.channels or 1, labelled=0.0)
    if spec.kind == 'regression':
        gt[:] = np.nan
    cases = {'nothing labelled': [sample(task, gt, pred)], 'no task': [sample(task, None, pred)], 'no sample': []}
    samples = cases[case]
    for options in (dict(absent='zero'), {}) if spec.kind == 'classes' else ({},):
        metric = METRICS.build(dict(task=task, **spec.metric, **options))
        metric.dataset_meta = dict(classes={task: ('a', 'b', 'c', 'd')})
        metric.process(None, [one.to_dict() for one in samples])
        result = metric.evaluate(len(samples))
        assert f'{task}/{spec.headline}' in result
        assert all(math.isnan(value) for value in result.values())


@pytest.mark.parametrize('task', [task for task, spec in TASK_SPECS.items() if spec.kind != 'classes'])
@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_makes_nan(task, value):
    spec = TASK_SPECS[task]
    gt, pred = random_pair(spec.kind, np.random.default_rng(1), channels=spec.channels or 1, labelled=1.0)
    pred[:, 3, 4] = value
    metric = METRICS.build(dict(task=task, **spec.metric))
    assert math.isnan(evaluate(metric, [sample(task, gt, pred)])[f'{task}/{spec.headline}'])


@pytest.mark.parametrize('task', [task for task, spec in TASK_SPECS.items() if spec.kind != 'classes'])
def test_predictions_outside_the_labelled_pixels_do_not_matter(task):
    spec = TASK_SPECS[task]
    gt, pred = random_pair(spec.kind, np.random.default_rng(2), channels=spec.channels or 1)
    other = pred.copy()
    hidden = (gt == 255)[0] if spec.is_categorical else ~(np.isfinite(gt).all(0) & (gt != 0).any(0))
    assert hidden.any()
    other[:, hidden] = 0.987
    metric = METRICS.build(dict(task=task, **spec.metric))
    assert evaluate(metric, [sample(task, gt, pred)]) == evaluate(metric, [sample(task, gt, other)])


def test_nobody_in_some_images():
    """Human parts: images without a person are all 255 and must change nothing."""
    rng = np.random.default_rng(3)
    pairs = [random_pair('classes', rng) for _ in range(2)]
    nobody = (np.full((1, *SIZE), 255, np.uint8), pairs[0][1])
    metric = SegmentationMetric('human_parts')
    metric.dataset_meta = dict(classes=dict(human_parts=('a', 'b', 'c', 'd')))
    results = []
    for chosen in (pairs, [pairs[0], nobody, pairs[1], nobody]):
        metric.process(None, [one.to_dict() for one in _samples('human_parts', chosen)])
        results.append(metric.evaluate(len(chosen)))
    assert results[0] == results[1]


def test_half_precision_predictions_are_read():
    gt, pred = random_pair('depth', np.random.default_rng(4))
    exact = torch.as_tensor(pred).bfloat16()
    low = evaluate(DepthErrorMetric(), [sample('depth', gt, exact)])
    assert low == pytest.approx(evaluate(DepthErrorMetric(), [sample('depth', gt, exact.float())]))


def test_prefix_can_be_changed():
    gt, pred = random_pair('depth', np.random.default_rng(5))
    assert 'far/RMSE' in evaluate(DepthErrorMetric(prefix='far'), [sample('depth', gt, pred)])


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (lambda: SegmentationMetric('semsg'), KeyError, "did you mean 'semseg'"),
        (lambda: SegmentationMetric('depth'), ValueError, "kind classes, but task 'depth' is of kind 'depth'"),
        (lambda: SegmentationMetric(absent='skip'), ValueError, r"absent must be one of \('nan', 'zero'\)"),
        (lambda: DepthErrorMetric(max_depth=-1), ValueError, 'max_depth must be a number > 0 or None, but got -1'),
        (lambda: SaliencyMetric(beta_squared=0), ValueError, 'beta_squared must be a number > 0'),
        (lambda: EdgeMetric(max_dist=7.7), ValueError, r'max_dist must be a number in \[0, 1\)'),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize('make', [SaliencyMetric, PerImageSaliencyMetric, EdgeMetric])
def test_what_is_no_probability_or_no_binary_map_is_not_scored(make):
    gt, pred = random_pair('binary', np.random.default_rng(6))
    task = make().task
    for logits in (pred - 0.5, 255 * pred):
        with pytest.raises(ValueError, match=r'image_0\.png: the prediction must hold probabilities, 0 to 1, but lies'):
            evaluate(make(), [sample(task, gt, logits)])
    with pytest.raises(ValueError, match=r'the target must hold 0, 1 or 255 .*, but holds 128'):
        evaluate(make(), [sample(task, np.where(gt == 1, np.uint8(128), gt), pred)])
    with pytest.raises(ValueError, match=r'the prediction must have the shape \(1, H, W\), but has \(2, 17, 23\)'):
        evaluate(make(), [sample(task, gt, np.repeat(pred, 2, 0))])


def test_wrong_samples_are_named():
    gt, pred = random_pair('classes', np.random.default_rng(6))
    with pytest.raises(KeyError, match=r"image_0\.png has a target but no prediction 'pred_semseg'"):
        evaluate(SegmentationMetric(), [sample('semseg', gt, None)])
    with pytest.raises(ValueError, match=r'same size, but got \(16, 23\) and \(17, 23\)'):
        evaluate(SegmentationMetric(), [sample('semseg', gt, pred[:, 1:])])
    with pytest.raises(ValueError, match=r'image_0\.png: the prediction holds classes .*5 classes'):
        evaluate(SegmentationMetric(), [sample('semseg', gt, pred + 3)])
    with pytest.raises(ValueError, match=r'0\.png: the prediction must have the shape \(1, H, W\), but has \(4, '):
        evaluate(SegmentationMetric(), [sample('semseg', gt, np.repeat(pred, 4, 0))])
    with pytest.raises(ValueError, match=r'0\.png: the prediction must hold class indices, but holds numbers between'):
        evaluate(SegmentationMetric(), [sample('semseg', gt, pred + 0.5)])
    metric = SegmentationMetric()
    metric.dataset_meta = dict(classes=dict(human_parts=('a',)))
    with pytest.raises(KeyError, match=r"classes of task 'semseg' are unknown"):
        metric.process(None, [sample('semseg', gt, pred).to_dict()])
