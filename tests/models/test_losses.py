import numpy as np
import pytest
import torch

from mtl_plugins.models import valid_mask
from mtl_plugins.models.losses.normals import unit_vectors
from mtl_plugins.registry import MODELS
from mtl_plugins.task_specs import TASK_SPECS, get_task_spec

from . import slow_losses

# name -> (config, task whose targets it takes, channels of the prediction, the slow one)
CASES = {
    'ce': (dict(type='MaskedCrossEntropyLoss'), 'semseg', 5, slow_losses.cross_entropy),
    'bce': (dict(type='MaskedBCELoss'), 'sal', 1, slow_losses.bce),
    'edge': (
        dict(type='MaskedBCELoss', pos_weight=19.0, scale=0.05),
        'edge',
        1,
        lambda *a: slow_losses.bce(*a, pos_weight=19.0, scale=0.05),
    ),
    'l1': (dict(type='MaskedL1Loss'), 'depth', 1, slow_losses.l1),
    'l1_3': (dict(type='MaskedL1Loss'), 'segment_unsup2d', 3, slow_losses.l1),
    'mse': (dict(type='MaskedMSELoss'), 'principal_curvature', 2, slow_losses.mse),
    'normals': (dict(type='NormalsL1Loss'), 'normals', 3, slow_losses.normals_l1),
    'cosine': (dict(type='NormalsCosineLoss'), 'normal', 3, slow_losses.normals_cosine),
    'cosine_width': (
        dict(type='NormalsCosineLoss', axis='width'),
        'normal',
        3,
        slow_losses.normals_cosine_width,
    ),
    'balanced_1': (dict(type='BalancedCrossEntropyLoss'), 'sal', 1, slow_losses.balanced_cross_entropy),
    'balanced_2': (dict(type='BalancedCrossEntropyLoss'), 'sal', 2, slow_losses.balanced_cross_entropy),
}
MEANS = [name for name in CASES if not name.startswith('balanced')]


def build(name):
    cfg, task, channels, slow = CASES[name]
    return MODELS.build(cfg | dict(type=f'mtl_plugins.{cfg["type"]}')), get_task_spec(task), channels, slow


def example(spec, channels, batch=3, size=(5, 7), labelled=0.7, seed=0):
    """Prediction, target and mask; what is not labelled holds the worst value its kind of target may hold."""
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randn(batch, channels, *size, generator=generator) * 3
    valid = torch.rand(batch, *size, generator=generator) < labelled
    if spec.is_categorical:
        high = channels if spec.kind == 'classes' else 2
        target = torch.randint(0, high, (batch, 1, *size), generator=generator, dtype=torch.uint8)
        target = torch.where(valid[:, None], target, torch.tensor(255, dtype=torch.uint8))
    else:
        target = torch.randn(batch, channels, *size, generator=generator)
        target = {'depth': target.abs() + 0.1, 'normals': torch.nn.functional.normalize(target)}.get(spec.kind, target)
        target = torch.where(valid[:, None], target, torch.tensor(float('nan')))
    return pred, target, valid


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('name', CASES)
def test_equals_the_slow_one_and_gradients_stay_finite_with_nan_targets(name, seed):
    loss, spec, channels, slow = build(name)
    pred, target, valid = example(spec, channels, seed=seed)
    torch.testing.assert_close(valid_mask(spec, target), valid, rtol=0, atol=0)
    pred.requires_grad_()
    value = loss(pred, target, valid)
    expected = slow(pred.detach().numpy(), target.numpy(), valid.numpy())
    assert value.item() == pytest.approx(expected, rel=2e-5)
    value.backward()
    assert torch.isfinite(pred.grad).all()
    assert (pred.grad.permute(0, 2, 3, 1)[~valid] == 0).all()
    assert (pred.grad.permute(0, 2, 3, 1)[valid] != 0).any()


@pytest.mark.parametrize('name', CASES)
def test_without_a_valid_pixel_the_loss_is_zero_with_a_graph(name):
    loss, spec, channels, _ = build(name)
    pred, target, valid = example(spec, channels, labelled=0.0)
    pred.requires_grad_()
    value = loss(pred, target, valid)
    value.backward()
    assert value.item() == 0
    assert (pred.grad == 0).all()


@pytest.mark.parametrize('label', [0, 1])
def test_balanced_loss_with_one_class_only(label):
    loss, *_ = build('balanced_2')
    pred, target = torch.randn(2, 2, 4, 4, requires_grad=True), torch.full((2, 1, 4, 4), label, dtype=torch.uint8)
    value = loss(pred, target, torch.ones(2, 4, 4, dtype=torch.bool))
    value.backward()
    # All weight is on the class that is absent, as the definition says.
    assert value.item() == 0
    assert torch.isfinite(pred.grad).all()


@pytest.mark.parametrize('name', CASES)
def test_gradient_is_the_derivative(name):
    loss, spec, channels, _ = build(name)
    pred, target, valid = example(spec, channels, batch=1, size=(2, 3), seed=4)
    pred = pred.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, target, valid), (pred,))


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('name', MEANS)
def test_joint_batch_is_the_mean_of_its_parts_weighted_by_valid_pixels(name, seed):
    loss, spec, channels, _ = build(name)
    pred, target, valid = example(spec, channels, batch=5, seed=seed)
    valid[0] = False  # and parts that are unequal
    parts = [slice(0, 1), slice(1, 2), slice(2, 5)]
    counts = [valid[part].sum() for part in parts]
    losses = [loss(pred[part].double(), target[part], valid[part]) for part in parts]
    expected = sum(n * value for n, value in zip(counts, losses)) / sum(counts)
    torch.testing.assert_close(loss(pred.double(), target, valid), expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('name', CASES)
def test_half_precision_predictions_are_compared_in_float32(name, dtype):
    loss, spec, channels, _ = build(name)
    pred, target, valid = example(spec, channels, batch=4, size=(60, 60), seed=1)
    half = (pred * 20).to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype=dtype):
        value = loss(half, target, valid)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.detach().float(), target, valid), rtol=0, atol=0)
    value.backward()
    assert torch.isfinite(half.grad).all()


def test_edge_loss_is_the_released_weighting():
    loss, spec, channels, _ = build('edge')
    pred, target, valid = example(spec, channels)
    y = torch.where(valid[:, None], target, 0).double()
    log_p, log_q = pred.double().sigmoid().log(), (-pred.double()).sigmoid().log()
    terms = -(0.95 * y * log_p + 0.05 * (1 - y) * log_q)
    torch.testing.assert_close(loss(pred, target, valid).double(), terms[:, 0][valid].mean(), rtol=1e-6, atol=0)


def test_extreme_logits_stay_finite():
    for name in ('ce', 'bce', 'edge', 'balanced_1', 'balanced_2'):
        loss, spec, channels, _ = build(name)
        _, target, valid = example(spec, channels)
        for size in (1e4, -1e4):
            pred = torch.full((3, channels, 5, 7), size)
            pred[:, 0] *= -1
            pred.requires_grad_()
            value = loss(pred, target, valid)
            value.backward()
            assert torch.isfinite(value)
            assert torch.isfinite(pred.grad).all()


def test_zero_normals_have_bounded_gradients():
    loss, spec, channels, _ = build('normals')
    _, target, valid = example(spec, channels)
    pred = torch.zeros(3, 3, 5, 7, requires_grad=True)
    loss(pred, target, valid).backward()
    assert pred.grad.abs().max() * valid.sum() <= 1.01e6


@pytest.mark.parametrize(
    ('task', 'pixel', 'expected'),
    [
        ('semseg', [0], True), ('semseg', [255], False), ('edge', [1], True), ('sal', [255], False),
        ('depth', [0.5], True), ('depth', [0.0], False), ('depth', [-1.0], False), ('depth', [np.nan], False),
        ('depth', [np.inf], False), ('normals', [0.0, 0.0, 1.0], True), ('normals', [0.0, 0.0, 0.0], False),
        ('normals', [1.0, np.nan, 0.0], False), ('reshading', [0.0], True), ('reshading', [np.nan], False),
        ('principal_curvature', [0.0, 0.0], True), ('principal_curvature', [0.0, np.nan], False),
    ],
)  # fmt: skip
def test_validity_per_kind(task, pixel, expected):
    spec = get_task_spec(task)
    target = torch.tensor(pixel, dtype=torch.uint8 if spec.is_categorical else torch.float32).view(1, -1, 1, 1)
    assert valid_mask(spec, target).tolist() == [[[expected]]]


@pytest.mark.parametrize('key', TASK_SPECS)
def test_padding_is_never_valid_and_every_default_loss_builds(key):
    spec = TASK_SPECS[key]
    dtype = torch.uint8 if spec.is_categorical else torch.float32
    target = torch.full((2, spec.target_channels, 3, 4), spec.fill, dtype=dtype)
    assert not valid_mask(spec, target).any()
    loss = MODELS.build(dict(spec.loss))
    pred = torch.randn(2, spec.channels or 4, 3, 4, requires_grad=True)
    assert loss(pred, target, valid_mask(spec, target)).item() == 0


def test_released_cosine_is_that_of_torch_along_the_last_axis():
    pred, target = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 5, 7)
    loss = MODELS.build(dict(type='mtl_plugins.NormalsCosineLoss', axis='width'))
    expected = (1 - torch.nn.functional.cosine_similarity(pred, target, dim=-1)).mean()
    torch.testing.assert_close(loss(pred, target, torch.ones(2, 5, 7, dtype=torch.bool)), expected)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"NormalsCosineLoss.axis must be one of \('channel', 'width'\), .* 'height'"):
        MODELS.build(dict(type='mtl_plugins.NormalsCosineLoss', axis='height'))
    with pytest.raises(ValueError, match=r'pos_weight must be a number > 0, but got -1'):
        MODELS.build(dict(type='mtl_plugins.MaskedBCELoss', pos_weight=-1))
    with pytest.raises(ValueError, match=r'scale must be a number > 0, but got nan'):
        MODELS.build(dict(type='mtl_plugins.MaskedBCELoss', scale=float('nan')))
    loss, *_ = build('l1')
    mask = torch.ones(1, 3, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r'MaskedL1Loss: for a prediction of shape \(1, 2, 3, 3\) the target must'):
        loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3), mask)
    with pytest.raises(ValueError, match=r'1 or 2 channels, but got 3'):
        build('balanced_1')[0](torch.zeros(1, 3, 3, 3), torch.zeros(1, 1, 3, 3), mask)


@pytest.mark.parametrize('dim', [1, 3])
def test_unit_vectors_equal_those_of_torch(dim):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    x[0, :, 0] *= 1e-8
    x[1, :, 1] = 0
    results = []
    for function in (lambda x: unit_vectors(x, dim), lambda x: torch.nn.functional.normalize(x, dim=dim, eps=1e-6)):
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        results.append((out.detach(), leaf.grad))
    torch.testing.assert_close(*results)
