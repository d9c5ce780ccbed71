"""Strategies with one gradient per task, on the toy model."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtl_plugins.engine import MultiTaskOptimWrapper
from mtl_plugins.engine.optim_wrappers import (
    AdaTaskOptimWrapper,
    GradientAggregationOptimWrapper,
    SAMOOptimWrapper,
    SharpnessAwareOptimWrapper,
)
from mtl_plugins.engine.optimizers import AdaTask
from mtl_plugins.engine.step.gradients import SharedLayout
from mtl_plugins.engine.step.task_rows import TaskRows

from .toy import TASKS, flat, join, make_model, toy_batch


def sgd(model, lr=1.0):
    return torch.optim.SGD(model.parameters(), lr=lr)


def build(kind, model, lr=1.0, **kwargs):
    kwargs.setdefault('seed', 0)
    if kind == 'f_mtl':
        return SharpnessAwareOptimWrapper(sgd(model, lr), dict(type='PCGrad'), rho=0.05, **kwargs)
    if kind == 'samo':
        return SAMOOptimWrapper(sgd(model, lr), dict(type='MGDA'), rho=0.05, **kwargs)
    if kind == 'ada_task':
        return AdaTaskOptimWrapper(AdaTask(model.parameters(), lr=0.01 * lr), **kwargs)
    return GradientAggregationOptimWrapper(sgd(model, lr), dict(type=kind), **kwargs)


KINDS = ['Sum', 'Mean', 'MGDA', 'PCGrad', 'f_mtl', 'samo', 'ada_task']


@pytest.mark.parametrize('kind', ['Sum', 'Mean'])
def test_trivial_aggregators_equal_the_weighted_sum(kind):
    ours, plain = make_model(dropout=0.3), make_model(dropout=0.3)
    wrappers = build(kind, ours, lr=0.1), MultiTaskOptimWrapper(sgd(plain, 0.1))
    for model, wrapper in zip((ours, plain), wrappers):
        torch.manual_seed(3)
        for i in range(5):
            model.train_step(toy_batch(i), wrapper)
    torch.testing.assert_close(flat(ours), flat(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_training_lowers_the_losses(kind):
    model = make_model()
    wrapper = build(kind, model, lr=0.1)
    batches = [toy_batch(i, size=8) for i in range(4)]

    def total():
        with torch.no_grad():
            return sum(v.item() for b in batches for k, v in model(**b, mode='loss').items() if 'loss' in k)

    start = total()
    for i in range(60):
        model.train_step(batches[i % 4], wrapper)
    assert total() < 0.9 * start


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('case', ['unequal valid', 'task missing in one'])
def test_accumulation_equals_the_joint_batch(kind, case):
    micro = [toy_batch(0), toy_batch(1, invalid=0.6, tasks=('a', 'c') if case == 'task missing in one' else TASKS)]
    large, small = make_model(), make_model()
    large.train_step(join(*micro), build(kind, large))
    wrapper = build(kind, small, accumulative_counts=2)
    for batch in micro:
        small.train_step(batch, wrapper)
    start = flat(make_model())
    assert (flat(large) - flat(small)).norm() <= 2e-5 * (flat(large) - start).norm()


@pytest.mark.parametrize('kind', KINDS)
def test_absent_task_is_no_row(kind):
    results = []
    for tasks in (TASKS, ('a', 'c')):
        model = make_model()
        wrapper = build(kind, model, tasks=tasks)
        torch.manual_seed(0)
        for i in range(4):
            model.train_step(toy_batch(i, tasks=('a', 'c')), wrapper)
        assert torch.equal(flat(model.heads['b']), flat(make_model().heads['b']))
        results.append(flat(model))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('kind', KINDS)
def test_nonfinite_task_is_left_out(kind):
    results = []
    for poison in (True, False):
        model = make_model()
        wrapper = build(kind, model)
        batch = toy_batch(0, tasks=TASKS if poison else ('a', 'c'))
        if poison:
            batch['targets']['b'].fill_(float('inf'))
        model.train_step(batch, wrapper)
        assert wrapper.guard.total == ({'b': 1} if poison else {})
        results.append(flat(model))
    assert torch.equal(*results)


@pytest.mark.parametrize('kind', KINDS)
def test_nonfinite_row_is_left_out(kind):
    model = make_model()
    wrapper = build(kind, model)
    handle = model.heads['b'].register_full_backward_hook(lambda m, gi, go: tuple(g * float('inf') for g in gi))
    model.train_step(toy_batch(0), wrapper)
    handle.remove()
    assert torch.isfinite(flat(model)).all()
    # SAMO's first gradient is that of the mean loss, in which tasks cannot be told apart.
    assert torch.equal(flat(model.backbone), flat(make_model().backbone)) == (kind == 'samo')
    assert wrapper.guard.total == ({'gradient': 1} if kind == 'samo' else {'b': 1})


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(('precision', 'tolerance'), [('bf16', 0.1), ('fp16', 0.02)])
def test_mixed_precision(kind, precision, tolerance):
    steps = {}
    for name in ('fp32', precision):
        model = make_model()
        wrapper = build(kind, model, precision=dict(precision=name, init_scale=2.0**10))
        model.train_step(toy_batch(0), wrapper)
        steps[name] = flat(model) - flat(make_model())
    error = (steps[precision] - steps['fp32']).norm() / steps['fp32'].norm()
    # SAMO's finite differences of losses amplify the rounding of a 16-bit forward; Adam's first step is a sign.
    assert error < (10 if kind in ('samo', 'ada_task') else 1) * tolerance


@pytest.mark.parametrize('kind', KINDS)
def test_overflow_skips_the_step_and_halves_the_scale(kind):
    model = make_model()
    wrapper = build(kind, model, precision=dict(precision='fp16', init_scale=2.0**10))
    model.backbone[0].weight.register_hook(lambda grad: grad * float('inf'))
    model.train_step(toy_batch(0), wrapper)
    assert torch.equal(flat(model), flat(make_model()))
    assert wrapper.precision.loss_scale == 2.0**9


@pytest.mark.parametrize('kind', KINDS)
def test_state_round_trip(kind):
    def steps(model, wrapper, numbers):
        for i in numbers:
            torch.manual_seed(i)
            model.train_step(toy_batch(i), wrapper)

    whole = make_model()
    wrapper = build(kind, whole, lr=0.1)
    steps(whole, wrapper, range(4))
    other = make_model()
    other.load_state_dict(whole.state_dict())
    resumed = build(kind, other, lr=0.1, seed=5)
    resumed.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    for model, each in ((whole, wrapper), (other, resumed)):
        steps(model, each, range(4, 8))
    assert torch.equal(flat(whole), flat(other))


def test_interval_reuses_the_weights():
    model = make_model()
    wrapper = build('MGDA', model, lr=0.1, interval=3)
    solved = []
    combine = wrapper.combiner.combine
    wrapper.combiner.combine = lambda *args: (solved.append(wrapper.num_steps), combine(*args))[1]
    for i in range(7):
        model.train_step(toy_batch(i), wrapper)
    assert solved == [0, 3, 6]


def test_interval_step_is_the_weighted_sum():
    ours, plain = make_model(), make_model()
    wrapper = build('MGDA', ours, lr=0.1, interval=100)
    ours.train_step(toy_batch(0), wrapper)
    plain.load_state_dict(ours.state_dict())
    weights = dict(wrapper.combiner.weights)
    ours.train_step(toy_batch(1), wrapper)
    losses = plain(**toy_batch(1), mode='loss')
    shared, heads = list(plain.backbone.parameters()), list(plain.heads.parameters())
    total = sum(losses[f'{t}.loss'] * w for t, w in weights.items())
    moves = torch.autograd.grad(total, shared, retain_graph=True)
    own = torch.autograd.grad(sum(losses[f'{t}.loss'] for t in TASKS), heads)
    with torch.no_grad():
        for p, g in zip([*shared, *heads], [*moves, *own]):
            p -= 0.1 * g
    torch.testing.assert_close(flat(ours), flat(plain), rtol=1e-5, atol=1e-6)


def test_f_mtl_restores_weights_bit_by_bit():
    model = make_model()
    wrapper = build('f_mtl', model)
    wrapper.step = lambda **kwargs: False
    before = flat(model)
    model.train_step(toy_batch(0), wrapper)
    assert torch.equal(before, flat(model))


def test_f_mtl_equals_a_plain_restatement():
    """Sum as the aggregator: the shared update is the sum of the gradients at the tasks' perturbed points."""
    model, plain = make_model(), make_model()
    wrapper = SharpnessAwareOptimWrapper(sgd(model), rho=0.1)
    model.train_step(toy_batch(0), wrapper)
    shared = list(plain.backbone.parameters())
    update = [torch.zeros_like(p) for p in shared]
    heads = {}
    for task in TASKS:
        own = list(plain.heads[task].parameters())
        loss = plain(**toy_batch(0), mode='loss')[f'{task}.loss']
        gradients = torch.autograd.grad(loss, [*shared, *own])
        norms = [torch.cat([g.reshape(-1) for g in part]).norm() for part in (gradients[:4], gradients[4:])]
        saved = [p.detach().clone() for p in [*shared, *own]]
        with torch.no_grad():
            for i, (p, g) in enumerate(zip([*shared, *own], gradients)):
                p += 0.1 * g / norms[0 if i < 4 else 1]
        loss = plain(**toy_batch(0), mode='loss')[f'{task}.loss']
        gradients = torch.autograd.grad(loss, [*shared, *own])
        with torch.no_grad():
            for p, value in zip([*shared, *own], saved):
                p.copy_(value)
        update = [u + g for u, g in zip(update, gradients[:4])]
        heads[task] = gradients[4:]
    with torch.no_grad():
        for p, u in zip(shared, update):
            p -= u
        for task in TASKS:
            for p, g in zip(plain.heads[task].parameters(), heads[task]):
                p -= g
    torch.testing.assert_close(flat(model), flat(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (lambda m: build('PCGrad', m, row_dtype='fp8'), ValueError, 'row_dtype must be one of'),
        (lambda m: build('MGDA', m, interval=0), ValueError, 'interval must be an integer >= 1'),
        (lambda m: build('MGDA', m, heads='mean'), ValueError, 'heads must be one of'),
        (lambda m: build('MGDDA', m), KeyError, 'did you mean MGDA'),
        (lambda m: AdaTaskOptimWrapper(sgd(m)), TypeError, 'needs optimizer=dict'),
        (lambda m: build('ada_task', m, clip_grad=dict(type='value', clip_value=1)), ValueError, "type 'norm'"),
        (lambda m: SharpnessAwareOptimWrapper(sgd(m), rho=0), ValueError, 'rho must be a number > 0'),
        (lambda m: build('f_mtl', m, interval=2), ValueError, 'use interval=1'),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(make_model())


def test_features_level_equals_a_plain_restatement():
    """MGDA on the gradients of the backbone's output; two tasks have its closed form."""
    ours, plain = make_model(tasks=TASKS[:2]), make_model(tasks=TASKS[:2])
    batch = toy_batch(0, tasks=TASKS[:2])
    wrapper = build('MGDA', ours, level='features', features='backbone', rescale=None)
    ours.train_step(batch, wrapper)
    features = plain.backbone(batch['inputs'])
    losses = [(plain.heads[t](features) - batch['targets'][t]).square().mean() for t in TASKS[:2]]
    g1, g2 = (torch.autograd.grad(loss, features, retain_graph=True)[0].reshape(-1).double() for loss in losses)
    w1 = ((g2 - g1) @ g2 / (g1 - g2).square().sum()).clamp(0, 1).item()
    shared, heads = list(plain.backbone.parameters()), list(plain.heads.parameters())
    moves = torch.autograd.grad(w1 * losses[0] + (1 - w1) * losses[1], shared, retain_graph=True)
    own = torch.autograd.grad(losses[0] + losses[1], heads)
    with torch.no_grad():
        for p, g in zip([*shared, *heads], [*moves, *own]):
            p -= g
    torch.testing.assert_close(flat(ours), flat(plain), rtol=1e-5, atol=1e-6)
    assert not ours.backbone._forward_hooks


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(level='features', features='body'), 'the model has no such module; its parts are .*backbone'),
        (dict(level='inputs'), 'level must be one of'),
        (dict(level='features', accumulative_counts=2), 'use accumulative_counts=1'),
    ],
)
def test_bad_levels_are_refused(options, message):
    model = make_model()
    with pytest.raises(ValueError, match=message):
        model.train_step(toy_batch(0), build('MGDA', model, **options))


@pytest.mark.parametrize(('precision', 'tolerance'), [('bf16', 0.1), ('fp16', 0.02)])
def test_features_level_in_mixed_precision(precision, tolerance):
    steps = {}
    for name in ('fp32', precision):
        model = make_model()
        wrapper = build('MGDA', model, level='features', precision=dict(precision=name, init_scale=2.0**10))
        model.train_step(toy_batch(0), wrapper)
        steps[name] = flat(model) - flat(make_model())
    assert (steps[precision] - steps['fp32']).norm() < tolerance * steps['fp32'].norm()


def test_features_level_leaves_out_a_nonfinite_task():
    model = make_model()
    wrapper = build('MGDA', model, level='features')
    handle = model.heads['b'].register_full_backward_hook(lambda m, gi, go: tuple(g * float('inf') for g in gi))
    model.train_step(toy_batch(0), wrapper)
    handle.remove()
    assert wrapper.guard.total == {'b': 1}
    assert torch.isfinite(flat(model)).all()
    assert torch.equal(flat(model.heads['b']), flat(make_model().heads['b']))
    assert not torch.equal(flat(model.backbone), flat(make_model().backbone))


@pytest.mark.parametrize('kind', ['MGDA', 'PCGrad', 'Sum', 'f_mtl', 'ada_task'])
@pytest.mark.parametrize('accumulative_counts', [1, 2])
def test_rows_of_16_bits_halve_the_memory_and_keep_the_direction(kind, accumulative_counts):
    steps = {}
    for dtype in ('fp32', 'bf16'):
        model = make_model()
        wrapper = build(kind, model, row_dtype=dtype, accumulative_counts=accumulative_counts)
        rows = wrapper.rows
        seen = []
        wrapper.rows = lambda *args, rows=rows, seen=seen: seen.append(rows(*args)) or seen[-1]
        for i in range(accumulative_counts):
            model.train_step(toy_batch(i), wrapper)
        assert {row.matrix.dtype for row in seen} == {torch.float32 if dtype == 'fp32' else torch.bfloat16}
        steps[dtype] = flat(model) - flat(make_model())
    cosine = torch.cosine_similarity(steps['fp32'], steps['bf16'], dim=0)
    assert cosine > (0.99 if kind == 'ada_task' else 0.9995)
    assert not torch.equal(steps['fp32'], steps['bf16'])


class LargestTensor(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that an operation makes, apart from views of a known one."""

    def __init__(self, known):
        super().__init__()
        self.known = known.untyped_storage().data_ptr()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() != self.known:
            self.bytes = max(self.bytes, out.untyped_storage().nbytes())
        return out


def test_rows_of_16_bits_are_combined_without_a_wider_copy():
    wrapper = build('PCGrad', make_model(), row_dtype='bf16', tasks=TASKS)
    width = 200_000
    rows = torch.randn(3, width, generator=torch.Generator().manual_seed(0)).bfloat16()
    with LargestTensor(rows) as made:
        update = wrapper.combiner.combine(TaskRows(TASKS, rows, SharedLayout([])), torch.ones(3).double(), {})
    assert made.bytes <= 4 * width
    # The sum itself is not rounded to 16 bits.
    assert update.dtype == torch.float32
    assert not torch.equal(update, update.bfloat16().float())


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_rows_are_called_finite_if_they_are(dtype):
    model, batch = make_model(), toy_batch(0)
    wrapper = build('PCGrad', model, tasks=TASKS)
    model.train_step(batch, wrapper)

    def finite(rows):
        return wrapper.finite_rows(SimpleNamespace(), TaskRows(TASKS, rows, SharedLayout([]))).tasks

    rows = torch.ones(3, 7, dtype=dtype)
    for bad in (float('nan'), float('inf'), -float('inf')):
        rows[1, 3], rows[2] = bad, 3e38
        assert finite(rows) == ['a', 'c']
    assert finite(rows[::2].repeat(2, 1)[:3]) == ['a', 'b', 'c']
