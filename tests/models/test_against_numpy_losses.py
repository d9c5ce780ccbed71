"""Every loss against its definition, written as loops over pixels that decide for themselves which of them count."""

import math

import numpy as np
import pytest
import torch

from mtl_plugins.models import losses, valid_mask
from mtl_plugins.registry import MODELS
from mtl_plugins.task_specs import TASK_SPECS, get_task_spec


def pixels(pred, target):
    """Per pixel the values of the prediction and of the target."""
    for n in range(pred.shape[0]):
        for y in range(pred.shape[2]):
            for x in range(pred.shape[3]):
                yield [float(v) for v in pred[n, :, y, x]], [float(v) for v in target[n, :, y, x]]


def labelled_classes(pred, target):
    return [(p, int(t[0])) for p, t in pixels(pred, target) if t[0] != 255]


def labelled_depth(pred, target):
    return [(p, t) for p, t in pixels(pred, target) if t[0] > 0 and math.isfinite(t[0])]


def labelled_normals(pred, target):
    return [(p, t) for p, t in pixels(pred, target) if any(v != 0 for v in t) and all(map(math.isfinite, t))]


def labelled_numbers(pred, target):
    return [(p, t) for p, t in pixels(pred, target) if all(map(math.isfinite, t))]


def log_probabilities(logits):
    total = sum(math.exp(v - max(logits)) for v in logits)
    return [v - max(logits) - math.log(total) for v in logits]


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def cross_entropy(pred, target):
    counted = labelled_classes(pred, target)
    return sum(-log_probabilities(p)[t] for p, t in counted) / max(len(counted), 1)


def edges(positive):
    def loss(pred, target):
        counted = labelled_classes(pred, target)
        total = 0.0
        for p, t in counted:
            if t == 1:
                total -= positive * math.log(sigmoid(p[0]))
            else:
                total -= (1 - positive) * math.log(1 - sigmoid(p[0]))
        return total / max(len(counted), 1)

    return loss


def plain_bce(pred, target):
    return 2 * edges(0.5)(pred, target)


def balanced(over_all=False):
    def loss(pred, target):
        counted = labelled_classes(pred, target)
        if not counted:
            return 0.0
        w_positive = sum(t == 0 for _, t in counted) / len(counted)
        weights = (1 - w_positive, w_positive)
        total = 0.0
        for p, t in counted:
            logits = p if len(p) == 2 else [0.0, p[0]]
            total -= weights[t] * log_probabilities(logits)[t]
        return total / (pred.shape[0] * pred.shape[2] * pred.shape[3] if over_all else len(counted))

    return loss


def normals(share=1.0):
    def loss(pred, target):
        counted = labelled_normals(pred, target)
        total = 0.0
        for p, t in counted:
            length = math.sqrt(sum(v * v for v in p))
            for a, b in zip(p, t):
                total += share * abs(a / length - b)
        return total / max(len(counted), 1)

    return loss


def cosine(pred, target):
    counted = labelled_normals(pred, target)
    total = 0.0
    for p, t in counted:
        lengths = math.sqrt(sum(v * v for v in p)) * math.sqrt(sum(v * v for v in t))
        total += 1 - sum(a * b for a, b in zip(p, t)) / lengths
    return total / max(len(counted), 1)


def absolute(labelled):
    def loss(pred, target):
        counted = labelled(pred, target)
        terms = [abs(a - b) for p, t in counted for a, b in zip(p, t)]
        return sum(terms) / max(len(terms), 1)

    return loss


def squared(pred, target):
    terms = [(a - b) ** 2 for p, t in labelled_numbers(pred, target) for a, b in zip(p, t)]
    return sum(terms) / max(len(terms), 1)


# name -> (config, task, channels of the prediction, definition)
CASES = {
    'semseg': (dict(type='MaskedCrossEntropyLoss'), 'semseg', 5, cross_entropy),
    'human_parts': (dict(type='MaskedCrossEntropyLoss'), 'human_parts', 7, cross_entropy),
    'sal as two classes': (dict(type='MaskedCrossEntropyLoss'), 'sal', 2, cross_entropy),
    'sal': (dict(type='BalancedCrossEntropyLoss'), 'sal', 2, balanced()),
    'sal, one channel': (dict(type='BalancedCrossEntropyLoss'), 'sal', 1, balanced()),
    'sal, HED': (dict(type='BalancedCrossEntropyLoss', average='all'), 'sal', 1, balanced(over_all=True)),
    'sal, plain': (dict(type='MaskedBCELoss'), 'sal', 1, plain_bce),
    'edge 0.95': (dict(type='MaskedBCELoss', pos_weight=19.0, scale=0.05), 'edge', 1, edges(0.95)),
    'edge 0.8 (ATRC)': (dict(type='MaskedBCELoss', pos_weight=4.0, scale=0.2), 'edge', 1, edges(0.8)),
    'normals': (dict(type='NormalsL1Loss'), 'normals', 3, normals()),
    'normals, mean': (dict(type='NormalsL1Loss', channels='mean'), 'normals', 3, normals(1 / 3)),
    'normals, cosine': (dict(type='NormalsCosineLoss'), 'normals', 3, cosine),
    'depth': (dict(type='MaskedL1Loss'), 'depth', 1, absolute(labelled_depth)),
    'regression': (dict(type='MaskedL1Loss'), 'edge_texture', 1, absolute(labelled_numbers)),
    'regression of 3': (dict(type='MaskedL1Loss'), 'denoise', 3, absolute(labelled_numbers)),
    'curvature': (dict(type='MaskedMSELoss'), 'principal_curvature', 2, squared),
}
SIZES = {'batch': (3, 4, 5), 'one pixel': (1, 1, 1), 'one row': (2, 1, 6)}


def example(task, channels, shape, labelled, seed):
    """Prediction and target; what is not labelled is marked in every way that its kind knows."""
    spec, rng = get_task_spec(task), np.random.default_rng(seed)
    batch, height, width = shape
    pred = 2 * rng.normal(size=(batch, channels, height, width))
    hidden = rng.random((batch, height, width)) >= labelled
    if spec.is_categorical:
        target = rng.integers(0, channels if spec.kind == 'classes' else 2, (batch, 1, height, width)).astype(np.uint8)
        target[:, 0][hidden] = 255
        return pred, target
    target = rng.normal(size=pred.shape)
    if spec.kind == 'depth':
        target = np.abs(target) + 0.1
    if spec.kind == 'normals':
        target /= np.linalg.norm(target, axis=1, keepdims=True)
    marks = {'depth': (0.0, np.nan, -1.0), 'normals': (0.0, np.nan)}.get(spec.kind, (np.nan, np.inf))
    for channel in range(target.shape[1]):
        target[:, channel][hidden] = rng.choice(marks[:1] if spec.kind == 'normals' else marks, hidden.sum())
    return pred, target


def build(name):
    cfg, task, channels, definition = CASES[name]
    return MODELS.build(cfg | dict(type=f'mtl_plugins.{cfg["type"]}')), get_task_spec(task), channels, definition


@pytest.mark.parametrize('labelled', [0.7, 1.0, 0.0])
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', CASES)
def test_equals_the_definition(name, size, labelled):
    loss, spec, channels, definition = build(name)
    for seed in range(3):
        pred, target = example(spec.key, channels, SIZES[size], labelled, seed)
        tensors = torch.from_numpy(pred).requires_grad_(), torch.from_numpy(target)
        value = loss(*tensors, valid_mask(spec, tensors[1]))
        assert value.item() == pytest.approx(definition(pred, target), rel=1e-9, abs=1e-12)
        value.backward()
        assert torch.isfinite(tensors[0].grad).all()
        if labelled == 0:
            assert value.item() == 0
            assert (tensors[0].grad == 0).all()


@pytest.mark.parametrize('name', CASES)
def test_gradient_is_that_of_the_definition(name):
    """By finite differences of the loops, at pixels with and without a label."""
    loss, spec, channels, definition = build(name)
    pred, target = example(spec.key, channels, (2, 2, 3), 0.6, 7)
    tensors = torch.from_numpy(pred).requires_grad_(), torch.from_numpy(target)
    loss(*tensors, valid_mask(spec, tensors[1])).backward()
    step = 1e-6
    for index in np.ndindex(*pred.shape):
        high, low = pred.copy(), pred.copy()
        high[index] += step
        low[index] -= step
        slope = (definition(high, target) - definition(low, target)) / (2 * step)
        assert tensors[0].grad[index].item() == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize('name', ['sal', 'sal, one channel', 'sal, HED'])
@pytest.mark.parametrize('label', [0, 1])
def test_balanced_with_one_class_present(name, label):
    loss, spec, channels, definition = build(name)
    pred, target = example('sal', channels, (2, 3, 3), 0.7, 1)
    target[target != 255] = label
    tensors = torch.from_numpy(pred), torch.from_numpy(target)
    value = loss(*tensors, valid_mask(spec, tensors[1])).item()
    assert value == definition(pred, target) == 0


def test_hed_and_the_released_balance_differ_by_the_share_of_labelled_pixels():
    pred, target = example('sal', 1, (2, 6, 6), 0.5, 3)
    tensors = torch.from_numpy(pred), torch.from_numpy(target)
    valid = valid_mask(get_task_spec('sal'), tensors[1])
    released, hed = build('sal, one channel')[0], build('sal, HED')[0]
    assert 0.2 < valid.double().mean() < 0.8
    torch.testing.assert_close(hed(*tensors, valid), released(*tensors, valid) * valid.double().mean())


def test_an_image_without_a_person_adds_nothing():
    loss, spec, channels, _ = build('human_parts')
    pred, target = example('human_parts', channels, (3, 4, 4), 0.8, 2)
    target[1] = 255
    tensors = torch.from_numpy(pred).requires_grad_(), torch.from_numpy(target)
    value = loss(*tensors, valid_mask(spec, tensors[1]))
    value.backward()
    others = [0, 2]
    without = loss(tensors[0][others], tensors[1][others], valid_mask(spec, tensors[1][others]))
    torch.testing.assert_close(value, without)
    assert (tensors[0].grad[1] == 0).all()


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r"average must be one of \('valid', 'all'\), but got 'none'"):
        losses.BalancedCrossEntropyLoss('none')
    with pytest.raises(ValueError, match=r"channels must be one of \('sum', 'mean'\), but got 'max'"):
        losses.NormalsL1Loss('max')


def test_the_default_loss_of_every_task_is_among_them():
    known = {str(sorted(cfg.items())) for cfg, *_ in CASES.values()}
    for key, spec in TASK_SPECS.items():
        cfg = dict(spec.loss, type=spec.loss['type'].removeprefix('mtl_plugins.'))
        assert str(sorted(cfg.items())) in known, f'{key}: add its loss to CASES'
