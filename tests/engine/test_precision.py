"""Mixed precision on the CPU: equal to fp32 within the type's accuracy, overflow handled per step."""

import pytest
import torch

from mtl_plugins.engine import MultiTaskOptimWrapper, SelectiveTaskGroupOptimWrapper
from mtl_plugins.engine.precision import Precision

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
