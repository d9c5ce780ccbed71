"""Gradients lie in memory as their parameters do, and complex parameters are stepped right or refused."""

import pytest
import torch
from torch import nn

from mtl_plugins.engine.step.gradient_sums import Bucket, laid_out_as
from mtl_plugins.engine.step.gradients import accumulate
from mtl_plugins.errors import UserError

from .all_methods import ROWS, build
from .toy import ToyModel, flat, make_model, toy_batch


def strides_seen(wrapper):
    """Whether ``.grad`` had the parameter's strides at every step of the optimizer."""
    seen, step = [], wrapper.step

    def spy(**kwargs):
        seen.extend(p.grad.stride() == p.stride() for p in wrapper._trainable() if p.grad is not None)
        return step(**kwargs)

    wrapper.step = spy
    return seen


@pytest.mark.parametrize('key', ROWS)
def test_channels_last_changes_nothing_for_any_optimizer(key):
    """Two steps in two memory formats; a fused optimizer reads weights and gradients in the order of memory."""
    moves = {}
    plain = dict(foreach=False, fused=False)
    for name, options in dict(reference=plain, plain=plain, foreach=dict(foreach=True), fused=dict(fused=True)).items():
        model = make_model()
        if name != 'reference':
            model.to(memory_format=torch.channels_last)
            assert model.backbone[0].weight.stride() != make_model().backbone[0].weight.stride()
        wrapper = build(key, model)
        if key != 'ada_task':
            wrapper.optimizer = torch.optim.Adam(model.parameters(), lr=0.01, **options)
        seen = strides_seen(wrapper)
        for number in range(2):
            model.train_step(toy_batch(number), wrapper)
        assert seen
        assert all(seen)
        moves[name] = flat(model) - flat(make_model())
    # Adam turns gradients of the size of rounding into full steps, so that a few numbers may differ.
    for name in ('plain', 'foreach', 'fused'):
        assert (moves[name] - moves['reference']).norm() <= 0.05 * moves['reference'].norm(), name


@pytest.mark.parametrize(
    'make',
    [
        lambda: torch.randn(6, 4, 3, 3).to(memory_format=torch.channels_last),
        lambda: torch.randn(6, 4, 1, 1).to(memory_format=torch.channels_last),
        lambda: torch.randn(5, 7).T,
        lambda: torch.randn(3, 8)[:, ::2],
        lambda: torch.randn(()),
    ],
)
def test_values_get_the_strides_of_the_parameter(make):
    parameter = nn.Parameter(make())
    wanted = torch.empty_like(parameter).stride()
    values = torch.randn(parameter.numel())
    for dtype in (torch.float32, torch.float64):
        gradient = laid_out_as(parameter, values.to(dtype))
        assert gradient.stride() == wanted
        assert torch.equal(gradient.reshape(-1), values)
    accumulate([parameter], [values.view(parameter.shape)])
    assert parameter.grad.stride() == wanted
    parameter.grad = None
    bucket = Bucket([parameter])  # a rank without a gradient of its own
    bucket.flat.fill_(2.0)
    bucket.receive({parameter})
    assert parameter.grad.stride() == wanted
    assert (parameter.grad == 2).all()


def complex_model():
    """The toy with a complex number in its backbone."""
    model = make_model()
    model.phase = nn.Parameter(torch.tensor([0.3 + 0.4j]))
    model.backbone[1].register_forward_hook(lambda module, args, out: out * model.phase.abs() + model.phase.imag)
    return model


NOT_COMPARING = ('stgu', 'stgu_released', 'phases')
COMPARING = [key for key, row in ROWS.items() if row.kind != 'loss weighting' and key not in NOT_COMPARING]
COMPARING += ['gradnorm', 'emtl']


@pytest.mark.parametrize('key', COMPARING)
def test_complex_parameters_are_refused_before_training(key):
    model = complex_model()
    wrapper = build(key, model)
    with pytest.raises(UserError, match='is complex'):
        wrapper.attach(model)
    model.phase.requires_grad_(False)
    wrapper = build(key, model)
    model.train_step(toy_batch(0), wrapper)
    model.phase.requires_grad_(True)
    with pytest.raises(UserError, match='is complex'):
        model.train_step(toy_batch(1), wrapper)


@pytest.mark.parametrize('key', [key for key in ROWS if key not in COMPARING])
def test_complex_parameters_are_stepped_in_both_parts(key):
    """The same step as with the two parts as one real parameter."""
    model = complex_model()
    start = model.phase.detach().clone()
    model.train_step(toy_batch(0), build(key, model))
    moved = torch.view_as_real(model.phase.detach() - start)
    assert (moved != 0).all()


def doubled(parameters):
    """The gradients summed over two equal ranks."""
    bucket = Bucket(parameters)
    assert all(parameter.grad is None for parameter in parameters)
    bucket.flat.mul_(2)
    bucket.receive(set(parameters))


def test_the_sum_over_ranks_keeps_the_imaginary_part():
    parameter = nn.Parameter(torch.zeros(3, 2, dtype=torch.complex64))
    other = nn.Parameter(torch.zeros(5))
    gradient = torch.randn(3, 2, dtype=torch.complex64)
    for present in (True, False):
        other.grad, parameter.grad = torch.ones(5), gradient.clone() if present else None
        doubled([other, parameter])
        assert torch.equal(parameter.grad, 2 * gradient if present else 0 * gradient)
        assert torch.equal(other.grad, torch.full((5,), 2.0))


class Looked(ToyModel):
    """Adds something that is looked up to the error of one task."""

    def __init__(self, sparse):
        super().__init__()
        self.lookup = nn.Embedding(5, 1, sparse=sparse)

    def forward(self, inputs, targets, mode='tensor'):
        out = super().forward(inputs, targets, mode)
        return {**out, 'a.loss': out['a.loss'] + (1 - self.lookup(torch.tensor([1, 3]))).square().sum()}


def test_sparse_gradients_are_right_or_refused_before_training():
    for key in ROWS:
        models = []
        for sparse in (True, False):
            torch.manual_seed(0)
            models.append(Looked(sparse))
        if key in COMPARING:
            with pytest.raises(UserError, match='the gradients of lookup are sparse'):
                build(key, models[0]).attach(models[0])
            continue
        for model in models:
            model.train_step(toy_batch(0), build(key, model))
        torch.testing.assert_close(*(model.lookup.weight for model in models))


def test_the_sum_over_ranks_takes_sparse_gradients():
    lookup, other = nn.Embedding(5, 1, sparse=True), nn.Parameter(torch.zeros(2))
    lookup(torch.tensor([1, 3])).sum().backward()
    doubled([other, lookup.weight])
    assert lookup.weight.grad.flatten().tolist() == [0, 2, 0, 2, 0]
