"""Every metric against its definition as loops over pixels, empty cases included, and in two processes."""

import math

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler

from mtl_plugins.registry import METRICS
from mtl_plugins.task_specs import get_task_spec
from tests.support.two_ranks import launch

from .dense_samples import sample

NAN = float('nan')
NAMES = tuple('abcdefg')
"""Seven classes, the last two of which never occur."""


# ---------------------------------------------------------------- definitions


def pixels(pairs):
    """Per pixel of all images the values of target and prediction."""
    for target, pred in pairs:
        yield from image_pixels(target, pred)


def image_pixels(target, pred):
    for y in range(target.shape[1]):
        for x in range(target.shape[2]):
            yield [float(v) for v in target[:, y, x]], [float(v) for v in pred[:, y, x]]


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else NAN


def segmentation(pairs, absent='nan'):
    counted = [(int(t[0]), int(p[0])) for t, p in pixels(pairs) if t[0] != 255]
    if not counted:
        return dict(mIoU=NAN, aAcc=NAN)
    ious = []
    for c in range(len(NAMES)):
        both = sum(t == c and p == c for t, p in counted)
        either = sum(c in (t, p) for t, p in counted)
        if either or absent == 'zero':
            ious.append(100 * both / max(either, 1e-8))
    return dict(mIoU=mean(ious), aAcc=100 * mean(t == p for t, p in counted))


def depth(pairs, max_depth=math.inf):
    counted = []
    for (t,), (p,) in pixels(pairs):
        if math.isfinite(t) and 0 < t <= max_depth:
            counted.append((t, max(p, 0) if max(p, 0) > 0 else 1e-9))
    return dict(
        RMSE=mean((p - t) ** 2 for t, p in counted) ** 0.5,
        log_RMSE=mean((math.log(p) - math.log(t)) ** 2 for t, p in counted) ** 0.5,
        abs_rel=mean(abs(p - t) / t for t, p in counted),
        sq_rel=mean((p - t) ** 2 / t for t, p in counted),
        **{f'delta{k}': 100 * mean(max(p / t, t / p) < 1.25**k for t, p in counted) for k in (1, 2, 3)},
    )


def normals(pairs):
    angles = []
    for t, p in pixels(pairs):
        if not all(map(math.isfinite, t)) or not any(t):
            continue
        a, b = ([v / (math.sqrt(sum(w * w for w in vector)) or 1) for v in vector] for vector in (t, p))
        difference = math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))
        together = math.sqrt(sum((x + y) ** 2 for x, y in zip(a, b)))
        angles.append(math.degrees(2 * math.atan2(difference, together)))
    return dict(
        mean=mean(angles),
        median=float(np.median(angles)) if angles else NAN,
        RMSE=mean(a * a for a in angles) ** 0.5,
        **{f'{limit:g}': 100 * mean(a < limit for a in angles) for limit in (11.25, 22.5, 30)},
    )


def saliency(pairs, beta_squared=0.3, quirk=False):
    counted = [(t[0] == 1, 1 / (1 + math.exp(-p[0])) if quirk else p[0]) for t, p in pixels(pairs) if t[0] != 255]
    if not any(t for t, _ in counted):
        return dict(maxF=NAN, mIoU=NAN)
    scores, overlaps = [], []
    for k in range(1, 20):
        hit = sum(t and p >= k / 20 for t, p in counted)
        predicted, actual = sum(p >= k / 20 for _, p in counted), sum(t for t, _ in counted)
        precision, recall = hit / predicted if predicted else 0, hit / actual
        bottom = beta_squared * precision + recall
        scores.append((1 + beta_squared) * precision * recall / bottom if bottom else 0)
        union = predicted + actual - hit
        parts = [hit / union] + ([(len(counted) - union) / (len(counted) - hit)] if len(counted) > hit else [])
        overlaps.append(mean(parts))
    return dict(maxF=100 * max(scores), mIoU=100 * max(overlaps))


def saliency_per_image(pairs):
    precision, recall, overlap = ([[] for _ in range(15)] for _ in range(3))
    for target, pred in pairs:
        counted = [(t[0] == 1, p[0]) for t, p in image_pixels(target, pred) if t[0] != 255]
        if not counted:
            continue
        for k, threshold in enumerate(np.linspace(0.2, 0.9, 15)):
            hit = sum(t and p > threshold for t, p in counted)
            predicted, actual = sum(p > threshold for _, p in counted), sum(t for t, _ in counted)
            precision[k].append(hit / predicted if predicted else 0)
            recall[k].append(hit / actual if actual else 0)
            union = predicted + actual - hit
            overlap[k].append(hit / union if union else 1)
    if not precision[0]:
        return dict(maxF=NAN, mIoU=NAN)
    scores = [
        2 * mean(p) * mean(r) / (mean(p) + mean(r)) if mean(p) + mean(r) else 0 for p, r in zip(precision, recall)
    ]
    return dict(maxF=100 * max(scores), mIoU=100 * max(mean(values) for values in overlap))


def regression(pairs):
    errors = [a - b for t, p in pixels(pairs) if all(map(math.isfinite, t)) for a, b in zip(p, t)]
    squared = mean(e * e for e in errors)
    return dict(L1=mean(abs(e) for e in errors), MSE=squared, RMSE=squared**0.5)


# name -> (config, definition)
CASES = {
    'semseg': (dict(type='SegmentationMetric', task='semseg'), segmentation),
    'absent 0': (dict(type='SegmentationMetric', task='semseg', absent='zero'), lambda p: segmentation(p, 'zero')),
    'parts': (dict(type='SegmentationMetric', task='human_parts', absent='zero'), lambda p: segmentation(p, 'zero')),
    'depth': (dict(type='DepthErrorMetric', task='depth'), depth),
    'depth, capped': (dict(type='DepthErrorMetric', task='depth', max_depth=3.0), lambda p: depth(p, 3.0)),
    'normals': (dict(type='NormalsMetric', task='normals'), normals),
    'sal': (dict(type='SaliencyMetric', task='sal'), saliency),
    'sal, beta 1': (dict(type='SaliencyMetric', task='sal', beta_squared=1.0), lambda p: saliency(p, 1.0)),
    'sal, quirk': (
        dict(type='SaliencyMetric', task='sal', released_sigmoid_quirk=True), lambda p: saliency(p, quirk=True)
    ),
    'sal, survey': (dict(type='PerImageSaliencyMetric', task='sal'), saliency_per_image),
    'regression': (dict(type='RegressionMetric', task='edge_texture'), regression),
    'curvature': (dict(type='RegressionMetric', task='principal_curvature'), regression),
    'regression of 3': (dict(type='RegressionMetric', task='denoise'), regression),
}  # fmt: skip


def random_pair(spec, rng, size, labelled):
    """Random target and prediction, unlabelled pixels marked in every way that the kind knows."""
    hidden = rng.random(size) >= labelled
    channels = spec.channels or 1
    if spec.kind == 'classes':
        target, pred = rng.integers(0, 5, (2, 1, *size))
        target[0, hidden] = 255
        return target.astype(np.uint8), pred
    if spec.kind == 'binary':
        target = (rng.random((1, *size)) < 0.3).astype(np.uint8)
        pred = (0.4 * target + 0.6 * rng.random((1, *size))).astype(np.float32)
        target[0, hidden] = 255
        return target, pred
    target = rng.normal(size=(channels, *size)).astype(np.float32)
    pred = (target + rng.normal(0, 0.6, target.shape)).astype(np.float32)
    if spec.kind == 'depth':
        target, pred = np.abs(target) * 2 + 0.3, np.abs(pred) * 2 + 0.3
        pred[0][rng.random(size) < 0.05] = 0
        pred[0][rng.random(size) < 0.05] = -0.5
    if spec.kind == 'normals':
        target /= np.linalg.norm(target, axis=0)
        pred[:, rng.random(size) < 0.05] = 0
    marks = {'depth': (0, NAN, -1), 'normals': (0,)}.get(spec.kind, (NAN, np.inf))
    for channel in range(channels):
        target[channel, hidden] = rng.choice(marks, hidden.sum())
    return target, pred


def pairs_of(name, labelled=0.8, count=3, size=(9, 11), seed=0):
    spec = get_task_spec(CASES[name][0]['task'])
    rng = np.random.default_rng(seed)
    return [random_pair(spec, rng, size, labelled) for _ in range(count)]


def build(name):
    cfg = CASES[name][0]
    metric = METRICS.build(cfg | dict(type=f'mtl_plugins.{cfg["type"]}'))
    metric.dataset_meta = dict(classes={cfg['task']: NAMES})
    return metric


def measure(name, pairs):
    metric, task = build(name), CASES[name][0]['task']
    for index, (target, pred) in enumerate(pairs):
        metric.process(None, [sample(task, target, pred, index).to_dict()])
    return metric.evaluate(len(pairs))


def assert_equal(name, result, pairs):
    task, expected = CASES[name][0]['task'], CASES[name][1](pairs)
    assert set(result) == {f'{task}/{entry}' for entry in expected}
    for entry, value in expected.items():
        # The median comes from a histogram: at most 0.01 degrees off below 60 degrees, at most 0.1 above.
        bound = (0.01 if value < 60 else 0.1) if entry == 'median' else 1e-6 * max(abs(value), 1)
        assert result[f'{task}/{entry}'] == pytest.approx(value, rel=0, abs=bound, nan_ok=True), entry


# ---------------------------------------------------------------- tests


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('labelled', [0.8, 1.0])
@pytest.mark.parametrize('name', CASES)
def test_equals_the_definition(name, labelled, seed):
    pairs = pairs_of(name, labelled, seed=seed)
    assert_equal(name, measure(name, pairs), pairs)


@pytest.mark.parametrize('name', CASES)
def test_images_of_different_sizes_and_without_labels(name):
    """One pool over pixels (or one mean over images), in which an image without labels has no share."""
    pairs = pairs_of(name, size=(3, 4)) + pairs_of(name, size=(8, 7), seed=1) + pairs_of(name, labelled=0.0, count=2)
    result = measure(name, pairs)
    assert_equal(name, result, pairs)
    assert result == pytest.approx(measure(name, pairs[:-2]), nan_ok=True)


@pytest.mark.parametrize('name', CASES)
def test_nothing_labelled_is_nan(name):
    pairs = pairs_of(name, labelled=0.0)
    result = measure(name, pairs)
    assert all(math.isnan(value) for value in result.values())
    assert_equal(name, result, pairs)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('name', CASES)
def test_one_pixel(name, seed):
    pairs = pairs_of(name, labelled=1.0, count=1, size=(1, 1), seed=seed)
    assert_equal(name, measure(name, pairs), pairs)


@pytest.mark.parametrize('name', CASES)
def test_a_perfect_prediction(name):
    targets = [target for target, _ in pairs_of(name)]
    pairs = [(t, np.where(t == 255, 0, t) if t.dtype == np.uint8 else np.nan_to_num(t, posinf=0)) for t in targets]
    assert_equal(name, measure(name, pairs), pairs)


@pytest.mark.parametrize('name', ['sal', 'sal, survey', 'sal, quirk'])
@pytest.mark.parametrize('probability', [0.0, 0.5, 1.0])
def test_saliency_of_flat_maps_and_of_images_without_an_object(name, probability):
    pairs = [(target, np.full_like(pred, probability)) for target, pred in pairs_of(name)]
    assert_equal(name, measure(name, pairs), pairs)
    pairs[1] = (np.where(pairs[1][0] == 255, 255, 0).astype(np.uint8), pairs[1][1])
    assert_equal(name, measure(name, pairs), pairs)
    nothing = [(np.zeros_like(target), pred) for target, pred in pairs]
    assert_equal(name, measure(name, nothing), nothing)


@pytest.mark.parametrize(
    'angles', [[10.0, 50.0], [0.0], [180.0], [0.004, 0.006, 89.99, 179.99], [59.99, 60.01], [90.0] * 5]
)
def test_median_of_few_angles_is_within_its_bound(angles):
    target = np.zeros((3, 1, len(angles)), np.float64)
    target[2] = 1
    radians = np.radians(np.array(angles))[None]
    pred = np.stack([np.sin(radians), np.zeros_like(radians), np.cos(radians)])
    result = measure('normals', [(target, pred)])
    assert result['normals/median'] == pytest.approx(
        np.median(angles), abs=0.01 if angles[len(angles) // 2] < 60 else 0.1
    )


def test_median_of_many_angles_is_much_closer_and_entries_stay_small():
    rng = np.random.default_rng(0)
    angles = rng.gamma(2.0, 9.0, (1, 300, 300)).clip(0, 180)
    target = np.zeros((3, 300, 300))
    target[2] = 1
    pred = np.stack([np.sin(np.radians(angles[0])), np.zeros((300, 300)), np.cos(np.radians(angles[0]))])
    assert measure('normals', [(target, pred)])['normals/median'] == pytest.approx(np.median(angles), abs=2e-3)
    entry = build('normals').measure(pred, target, np.ones((300, 300), bool))
    assert sum(value.nbytes for value in entry.values()) < 20_000


def _job(rank):
    found = {}
    for name in CASES:
        pairs, task, metric = pairs_of(name, count=7), CASES[name][0]['task'], build(name)
        # Seven images for two processes: the sampler hands one of them out twice.
        for index in DefaultSampler(range(7), shuffle=False):
            metric.process(None, [sample(task, *pairs[index], index).to_dict()])
        found[name] = metric.evaluate(7)
    return found


def test_two_processes_equal_one_and_count_each_image_once(tmp_path):
    first, second = launch(_job, tmp_path)
    assert first == second
    for name in CASES:
        pairs = pairs_of(name, count=7)
        assert first[name] == pytest.approx(measure(name, pairs), rel=1e-12)
        assert_equal(name, first[name], pairs)
        # Counting the repeated image twice would show.
        assert first[name] != pytest.approx(measure(name, [*pairs, pairs[0]]), rel=1e-12)
