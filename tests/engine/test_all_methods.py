"""Every method of the catalogue, built from its config fragment, on the toy model; new rows need no new test code."""

import copy
import io

import pytest
import torch

from mtl_plugins.registry import AGGREGATORS, WEIGHTINGS
from tests.support.runs import differences

from .all_methods import ROWS, build, read_fragment, record_gradients, train
from .toy import TASKS, flat, join, make_model, toy_batch

KEYS = list(ROWS)
EXACT = [key for key, row in ROWS.items() if row.accumulates_exactly]
WEIGHTED = [key for key, row in ROWS.items() if row.kind == 'loss weighting']
AGGREGATED = [key for key, row in ROWS.items() if row.kind == 'gradient aggregation']
PAIR = ('a', 'c')
# They draw once per task, present or not: the same method, but other numbers.
DRAWS_PER_TASK = {'rlw', 'stgu', 'stgu_released', 'phases', 'son_goku'}
# A quotient by numbers of the size of the rounding, or differences of nearly equal losses, amplify a 16-bit forward.
ROUGH = {'samo', 'ada_task'}


def total(model, batches):
    with torch.no_grad():
        return sum(v.item() for batch in batches for k, v in model(**batch, mode='loss').items() if 'loss' in k)


def state(wrapper):
    """What a method carries from step to step, without counters of batches and what was only seen."""
    kept = {k: v for k, v in wrapper.strategy_state().items() if k in ('weighting', 'aggregator', 'flat_aggregator')}
    if type(wrapper.weighting).__name__ == 'RLW':
        del kept['weighting']['logits']
    return copy.deepcopy(dict(method=kept, optimizer=wrapper.optimizer.state_dict()['state']))


def with_decay(key, model, **kwargs):
    """A wrapper whose optimizer moves what has a gradient of zeros, and leaves alone what has none."""
    wrapper = build(key, model, **kwargs)
    for group in wrapper.optimizer.param_groups:
        group.update(momentum=0.5, weight_decay=0.1)
    return wrapper


@pytest.mark.parametrize('key', KEYS)
def test_training_lowers_the_losses(key):
    model = make_model()
    wrapper = build(key, model, lr=0.05)
    batches = [toy_batch(i, size=8) for i in range(4)]
    start = total(model, batches)
    for i in range(20):
        model.train_step(batches[i % 4], wrapper)
    assert total(model, batches) < 0.95 * start
    assert wrapper.guard.total == {}


@pytest.mark.parametrize('key', KEYS)
def test_cost_is_that_of_the_catalogue(key):
    wrapper = build(key, make_model(), tasks=TASKS)
    groups = len(wrapper.groups) if key.startswith('stgu') else 1
    assert wrapper.cost_per_batch() == ROWS[key].step_cost(3, groups, getattr(wrapper, 'probe_interval', 0))


@pytest.mark.parametrize('key', KEYS)
def test_the_counted_cost_is_the_stated_one(key):
    """What the log and the comparisons count in a batch."""
    model = make_model()
    wrapper = build(key, model, tasks=TASKS)
    counts, log = [], wrapper._log
    wrapper._log = lambda batch: (counts.append((batch.num_forwards, batch.num_backwards)), log(batch))
    train(model, wrapper, [0])
    cost = wrapper.cost_per_batch()
    assert counts == [(cost.forwards + cost.probes, cost.backwards)]


@pytest.mark.parametrize('key', KEYS)
def test_an_absent_task_is_no_part_of_the_batch(key):
    """The method on the remaining tasks; the head of the absent one does not move."""
    results = []
    for tasks in (TASKS, PAIR):
        model = make_model()
        wrapper = with_decay(key, model, tasks=tasks)
        train(model, wrapper, range(4), tasks=PAIR)
        assert torch.equal(flat(model.heads['b']), flat(make_model().heads['b']))
        results.append(flat(model))
    assert not torch.equal(results[0], flat(make_model()))
    if key not in DRAWS_PER_TASK:
        torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('key', KEYS)
def test_tasks_may_arrive_later(key):
    """One task alone, then a second, then all: what is shared changes on the way."""
    model = make_model()
    wrapper = build(key, model)
    for tasks in (('a',), ('a', 'c'), TASKS, TASKS):
        train(model, wrapper, [len(tasks)], tasks=tasks)
    assert torch.isfinite(flat(model)).all()
    assert not torch.equal(flat(model.heads['b']), flat(make_model().heads['b']))
    assert wrapper.guard.total == {}


@pytest.mark.parametrize('key', KEYS)
def test_a_nonfinite_loss_takes_its_task_out(key):
    results = []
    for poison in (True, False):
        model = make_model()
        wrapper = with_decay(key, model)
        train(model, wrapper, [5])
        batch = toy_batch(0, tasks=TASKS if poison else PAIR)
        if poison:
            batch['targets']['b'].fill_(float('inf'))
        model.train_step(batch, wrapper)
        assert wrapper.guard.total == ({'b': 1} if poison else {})
        results.append(flat(model))
    assert torch.equal(*results)
    assert torch.isfinite(results[0]).all()


@pytest.mark.parametrize('key', KEYS)
def test_nonfinite_gradients_do_not_reach_the_weights(key):
    model = make_model()
    wrapper = build(key, model)
    train(model, wrapper, [0])
    before = state(wrapper)
    handle = model.heads['b'][0].weight.register_hook(lambda grad: grad * float('nan'))
    train(model, wrapper, [1])
    handle.remove()
    assert torch.isfinite(flat(model)).all()
    assert wrapper.guard.total != {}
    if key in WEIGHTED:
        assert differences(state(wrapper), before) == []
    train(model, wrapper, [2])
    assert torch.isfinite(flat(model)).all()


@pytest.mark.parametrize('key', KEYS)
@pytest.mark.parametrize(('precision', 'tolerance'), [('bf16', 0.1), ('fp16', 0.02)])
def test_mixed_precision_equals_fp32_within_accuracy(key, precision, tolerance):
    steps = {}
    for name in ('fp32', precision):
        model = make_model()
        train(model, build(key, model, precision=dict(precision=name, init_scale=2.0**10)), [0])
        steps[name] = flat(model) - flat(make_model())
    error = (steps[precision] - steps['fp32']).norm() / steps['fp32'].norm()
    assert 0 < error < (10 if key in ROUGH else 1) * tolerance


@pytest.mark.parametrize('key', KEYS)
def test_scaling_by_a_power_of_two_loses_nothing(key):
    results = []
    for precision in ('fp32', dict(precision='fp16', init_scale=2.0**10)):
        model = make_model()
        wrapper = build(key, model, precision=precision)
        wrapper.precision.autocast = lambda device: torch.autocast(device, enabled=False)
        train(model, wrapper, range(3))
        results.append(flat(model))
    assert torch.equal(*results)


@pytest.mark.parametrize('key', KEYS)
@pytest.mark.parametrize('where', ['backbone', 'head'])
def test_overflow_skips_the_step_and_leaves_the_state_alone(key, where):
    model = make_model()
    wrapper = build(key, model, precision=dict(precision='fp16', init_scale=2.0**10))
    train(model, wrapper, [0])
    weights, before = flat(model), state(wrapper)
    parts = [model.backbone] if where == 'backbone' else [model.heads[task] for task in TASKS]
    for part in parts:
        part[0].weight.register_hook(lambda grad: grad * float('inf'))
    train(model, wrapper, [1])
    assert torch.equal(flat(model), weights)
    assert wrapper.precision.loss_scale <= 2.0**9
    assert differences(state(wrapper), before) == []
    assert wrapper.guard.total == {}


@pytest.mark.parametrize('key', EXACT)
@pytest.mark.parametrize('case', ['unequal valid', 'task missing in one'])
def test_accumulation_equals_the_joint_batch(key, case):
    def micro(number):
        tasks = PAIR if case == 'task missing in one' else TASKS
        return [toy_batch(number), toy_batch(number + 1, invalid=0.6, tasks=tasks)]

    large, small = make_model(), make_model()
    one, two = build(key, large, lr=1e-2), build(key, small, lr=1e-2, accumulative_counts=2)
    joint, accumulated = record_gradients(one), record_gradients(two)
    for number in (0, 10):
        large.train_step(join(*micro(number)), one)
        for batch in micro(number):
            small.train_step(batch, two)
    assert len(joint) == len(accumulated)
    here, there = (torch.cat([g.reshape(-1) for g in seen[0] if g is not None]) for seen in (joint, accumulated))
    assert (here - there).norm() <= 1e-5 * here.norm()
    assert (flat(large) - flat(small)).norm() <= 1e-4 * (flat(large) - flat(make_model())).norm()


@pytest.mark.parametrize('key', [key for key in KEYS if key not in EXACT])
def test_accumulation_is_refused_where_it_would_not_be_exact(key):
    with pytest.raises(ValueError, match='use accumulative_counts=1'):
        build(key, make_model(), accumulative_counts=2)


#: The flat part of F-MTL, and what SAMO combines, may keep something as well.
KEEPING = {f'{key} by MoCo': dict(read_fragment(key), aggregator=dict(type='MoCo')) for key in ('f_mtl', 'samo')}


@pytest.mark.parametrize('key', [*KEYS, *KEEPING])
def test_a_resumed_run_goes_on_bit_by_bit(key):
    key = KEEPING.get(key, key)
    whole = make_model()
    wrapper = build(key, whole)
    train(whole, wrapper, range(4))
    batch = toy_batch(4)
    batch['targets']['b'].fill_(float('inf'))
    whole.train_step(batch, wrapper)
    wrapper.zero_rows['c'] = 3
    file = io.BytesIO()
    torch.save(dict(model=whole.state_dict(), optimizer=wrapper.state_dict()), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = make_model(seed=1)
    other.load_state_dict(saved['model'])
    resumed = build(key, other, seed=5)
    resumed.load_state_dict(saved['optimizer'])
    for model, each in ((whole, wrapper), (other, resumed)):
        train(model, each, [5], tasks=('a',))
        train(model, each, range(6, 9))
    assert torch.equal(flat(whole), flat(other))
    assert differences(wrapper.state_dict(), resumed.state_dict()) == []


@pytest.mark.parametrize('sharpness', ['f_mtl', 'samo'])
def test_both_parts_are_combined_by_the_aggregator_that_is_given(sharpness):
    ends = []
    for kind in ('Sum', 'MGDA', 'MoCo'):
        model = make_model()
        wrapper = build(dict(read_fragment(sharpness), aggregator=dict(type=kind)), model)
        combiners = [wrapper.combiner, *([wrapper.flat] if sharpness == 'f_mtl' else [])]
        assert {type(combiner.aggregator).__name__ for combiner in combiners} == {kind}
        train(model, wrapper, [0, 1])
        assert not any(torch.allclose(flat(model), other, rtol=1e-3) for other in ends)
        ends.append(flat(model))


def gradients_by_hand(model, batch):
    """Losses, gradients of the shared parameters ``[K, D]`` and of each head, by K calls of autograd."""
    losses = model(**batch, mode='loss')
    shared = list(model.backbone.parameters())
    rows, own = [], []
    for task in TASKS:
        heads = list(model.heads[task].parameters())
        gradients = torch.autograd.grad(losses[f'{task}.loss'], [*shared, *heads], retain_graph=True)
        rows.append(torch.cat([g.reshape(-1) for g in gradients[: len(shared)]]))
        own.append(torch.cat([g.reshape(-1) for g in gradients[len(shared) :]]))
    return torch.stack([losses[f'{task}.loss'].detach().double() for task in TASKS]), torch.stack(rows), own


@pytest.mark.parametrize('key', [*WEIGHTED, *AGGREGATED])
def test_the_step_is_the_pure_method_on_gradients_by_hand(key):
    """Three steps of the wrapper against the same class called as anyone would."""
    ours, plain = make_model(), make_model()
    wrapper = build(key, ours, lr=0.02)
    seen = record_gradients(wrapper)
    fragment = read_fragment(key)
    weighting = WEIGHTINGS.build(dict(wrapper_weighting(key, fragment)))
    weighting.bind(TASKS)
    weighting.set_epoch_length(2)
    aggregator = AGGREGATORS.build(dict(fragment['aggregator'])) if key in AGGREGATED else None
    if aggregator is not None:
        aggregator.bind(TASKS)
    generator = torch.Generator().manual_seed(0)
    present = torch.ones(3, dtype=torch.bool)
    for number in range(3):
        losses, rows, own = gradients_by_hand(plain, toy_batch(number))
        weighting.begin_step(generator)
        if weighting.needs_grad_norms:
            last = sum(p.numel() for p in plain.backbone[4].parameters())
            weighting.observe_grad_norms(rows[:, -last:].double().norm(dim=1), losses, present)
        weights = weighting.weights(losses, present)
        rows, own = rows * weights[:, None].float(), [g * w for g, w in zip(own, weights.tolist())]
        if aggregator is None:
            update = rows.sum(0)
        else:
            update = aggregator(rows, losses * weights, generator) * (3 if aggregator.scale == 'mean' else 1)
            found = None if aggregator.last_weights is None else aggregator.last_weights
            found = found * 3 if found is not None and aggregator.scale == 'mean' else found
            factors = aggregator.head_weights(found, losses * weights)
            own = own if factors is None else [g * f for g, f in zip(own, factors.tolist())]
        expected = torch.cat([update, *own])
        train(ours, wrapper, [number])
        ordered = dict(zip(wrapper._trainable(), seen[-1]))
        got = torch.cat([ordered[p].reshape(-1) for p in ours.parameters()])
        torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-6 * float(expected.abs().max()))
        plain.load_state_dict(ours.state_dict())
        after = None
        if weighting.needs_after_step:
            after = gradients_by_hand(plain, toy_batch(number))[0]
        weighting.after_step(losses, after, present)


def wrapper_weighting(key, fragment):
    """The weighting of a fragment with the settings that ``build`` uses."""
    from .all_methods import QUICK

    return QUICK.get(key, {}).get('weighting') or fragment.get('weighting') or dict(type='EqualWeighting')


@pytest.mark.parametrize('key', ['pcgrad', 'stgu', 'stgu_released', 'f_mtl', 'samo', 'ada_task'])
@pytest.mark.parametrize('weighting', ['GradNorm', 'EMTL'])
def test_weightings_by_gradient_norms_are_refused_where_nobody_measures_them(key, weighting):
    with pytest.raises(ValueError, match=f'{weighting} needs the gradient norms .* use type="mtl_plugins.MultiTask'):
        build(key, make_model(), weighting=dict(type=weighting))


@pytest.mark.parametrize('key', ['pcgrad', 'stgu', 'f_mtl', 'samo', 'ada_task'])
@pytest.mark.parametrize('weighting', ['FAMO', 'RLW', 'DWA'])
def test_other_weightings_go_with_every_strategy(key, weighting):
    model = make_model()
    wrapper = build(key, model, weighting=dict(type=weighting))
    wrapper.names.settle(TASKS)
    before = copy.deepcopy(wrapper.weighting.state_dict())
    train(model, wrapper, range(3))
    assert torch.isfinite(flat(model)).all()
    assert differences(wrapper.weighting.state_dict(), before) != []


def test_three_batches_per_step_are_refused():
    with pytest.raises(ValueError, match='set single_batch=True'):
        build('sdmgrad', make_model(), aggregator=dict(type='SDMGrad'))


def test_settings_by_task_name_reach_the_aggregator():
    for aggregator in (dict(type='NGDiff', signs=dict(b=-1)), dict(type='GradDrop', leak=dict(c=1.0))):
        model = make_model()
        train(model, build('pcgrad', model, aggregator=aggregator), range(2))
        entry = {'signs': dict(z=-1)} if 'signs' in aggregator else {'leak': dict(z=1.0)}
        with pytest.raises(ValueError, match="unknown task 'z'"):
            build('pcgrad', make_model(), aggregator={**aggregator, **entry}, tasks=TASKS)
