"""Mixed precision on the CPU: equal to fp32 within the type's accuracy, overflow handled per step."""

import math

import pytest
import torch

from mtl_plugins.engine import MultiTaskOptimWrapper, SelectiveTaskGroupOptimWrapper
from mtl_plugins.engine.step.precision import Precision

from .toy import TASKS, flat, make_model, toy_batch


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def build(method, model, **kwargs):
    if method == 'gd':
        return MultiTaskOptimWrapper(sgd(model), **kwargs)
    return SelectiveTaskGroupOptimWrapper(sgd(model), grouper=dict(type='Singletons'), seed=0, **kwargs)


@pytest.mark.parametrize('method', ['gd', 'stgu'])
@pytest.mark.parametrize(('precision', 'tolerance'), [('bf16', 3e-2), ('fp16', 4e-3)])
def test_step_equals_fp32_within_accuracy(method, precision, tolerance):
    steps = {}
    for name in ('fp32', precision):
        model = make_model()
        start = flat(model)
        wrapper = build(method, model, precision=dict(precision=name, init_scale=2.0**10))
        model.train_step(toy_batch(0), wrapper)
        steps[name] = flat(model) - start
    error = (steps[precision] - steps['fp32']).norm() / steps['fp32'].norm()
    assert 0 < error < tolerance


def test_scaling_by_a_power_of_two_loses_nothing():
    """fp16's scaler around an fp32 computation gives fp32's step, bit for bit."""
    models = []
    for scaled in (False, True):
        model = make_model()
        wrapper = build('stgu', model, precision='fp16' if scaled else 'fp32')
        if scaled:
            wrapper.precision.autocast = lambda device: torch.autocast(device, enabled=False)
        for i in range(5):
            model.train_step(toy_batch(i), wrapper)
        models.append(flat(model))
    assert torch.equal(*models)


def test_overflow_in_one_group_skips_only_that_step():
    model = make_model()
    wrapper = build('stgu', model, precision=dict(precision='fp16', init_scale=2.0**10), probe_interval=1)
    poison = model.heads['b'][0].weight.register_hook(lambda grad: grad * float('inf'))
    heads = {task: flat(model.heads[task]) for task in TASKS}
    model.train_step(toy_batch(0), wrapper)
    moved = {task: not torch.equal(heads[task], flat(model.heads[task])) for task in TASKS}
    assert moved == {'a': True, 'b': False, 'c': True}
    assert wrapper.precision.loss_scale == 2.0**9
    assert (wrapper.affinity.matrix[1] == 0).all(), 'a skipped step must not be credited'
    assert (wrapper.affinity.matrix[[0, 2]] != 0).all()
    assert wrapper.guard.total == {}
    assert torch.isfinite(flat(model)).all()
    poison.remove()
    model.train_step(toy_batch(1), wrapper)
    assert (wrapper.affinity.matrix[1] != 0).all()


def test_scaler_state_survives_a_round_trip():
    model = make_model()
    wrapper = build('gd', model, precision=dict(precision='fp16', init_scale=2.0**12))
    model.heads['a'][0].weight.register_hook(lambda grad: grad * float('inf'))
    model.train_step(toy_batch(0), wrapper)
    other = build('gd', make_model(), precision='fp16')
    other.load_state_dict(wrapper.state_dict())
    other.precision.scale(torch.ones(()))
    assert other.precision.loss_scale == 2.0**11


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"precision must be one of \['fp32', 'bf16', 'fp16'\], but got 'fp8'"):
        Precision('fp8')


@pytest.mark.parametrize('value', [0, -1.0, True, math.inf, math.nan, 'dynamic'])
@pytest.mark.parametrize('name', ['init_scale', 'growth_interval'])
def test_scales_that_are_no_number_above_0_are_refused(name, value):
    with pytest.raises(ValueError, match=rf'precision\.{name} must be a number > 0, but got {value!r}'):
        Precision('fp16', **{name: value})


@pytest.mark.parametrize(
    ('name', 'dtype'), [('fp32', torch.float32), ('bf16', torch.bfloat16), ('fp16', torch.float16)]
)
def test_autocast_and_scaling_go_by_the_name(name, dtype):
    precision = Precision(name, init_scale=2.0**10)
    with precision.autocast('cpu'):
        assert torch.is_autocast_enabled('cpu') == (name != 'fp32')
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert precision.uses_scaler == (name == 'fp16')
    scale = 2.0**10 if name == 'fp16' else 1.0
    assert precision.loss_scale == scale
    assert precision.scale(torch.tensor(3.0)).item() == 3.0 * scale
    assert precision.loss_scale == scale


def stepped(precision, gradient):
    """Step one weight, from 0 and at rate 1; whether it counted as a step, and where the weight is."""
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    precision.scale(weight * gradient).backward()
    precision.unscale_(optimizer)
    return precision.step(optimizer), weight.item()


def test_the_scale_grows_with_good_steps_and_shrinks_with_an_overflow():
    precision = Precision('fp16', init_scale=4.0, growth_interval=2)
    seen = []
    for gradient in (0.5, 0.5, math.inf, 0.5, 0.5):
        seen.append((*stepped(precision, gradient), precision.loss_scale))
    assert seen == [(True, -0.5, 4.0), (True, -0.5, 8.0), (False, 0.0, 4.0), (True, -0.5, 4.0), (True, -0.5, 8.0)]


def test_the_scalers_state_waits_for_its_first_use_and_is_taken_at_any_time():
    trained = Precision('fp16', init_scale=4.0, growth_interval=2)
    for _ in range(3):
        stepped(trained, 0.5)
    saved = trained.state_dict()
    assert saved['scaler']['scale'] == 8.0

    waiting = Precision('fp16')
    waiting.load_state_dict(saved)
    assert waiting.state_dict() == saved, 'a checkpoint before the first step must not lose it'
    used = Precision('fp16', init_scale=2.0, growth_interval=2)
    stepped(used, 0.5)
    used.load_state_dict(saved)
    for resumed in (waiting, used):
        stepped(resumed, 0.5)
        assert resumed.loss_scale == 16.0, 'three good steps before, one after: the second doubling'

    for name in ('fp32', 'bf16'):
        other = Precision(name)
        other.load_state_dict(saved)
        assert other.state_dict() == dict(name=name, scaler=None)
        fresh = Precision('fp16', init_scale=2.0)
        fresh.load_state_dict(other.state_dict())
        stepped(fresh, 0.5)
        fresh.load_state_dict(other.state_dict())
        assert fresh.loss_scale == 2.0
