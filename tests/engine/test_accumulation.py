"""Gradient accumulation equals the large batch, for every strategy."""

import pytest
import torch

from mtl_plugins.engine import MultiTaskOptimWrapper, SelectiveTaskGroupOptimWrapper

from .toy import flat, join, make_model, toy_batch


def build(method, model, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    if method == 'gd':
        return MultiTaskOptimWrapper(optimizer, **kwargs)
    return SelectiveTaskGroupOptimWrapper(
        optimizer, grouper=dict(type='Singletons'), seed=0, probe_interval=1, **kwargs
    )


@pytest.mark.parametrize('method', ['gd', 'stgu'])
@pytest.mark.parametrize('case', ['equal', 'unequal valid', 'task missing in one', 'unequal sizes'])
def test_micro_batches_equal_the_joint_batch(method, case):
    micro = [toy_batch(0), toy_batch(1), toy_batch(2)]
    if case == 'unequal valid':
        micro = [toy_batch(0), toy_batch(1, invalid=0.7), toy_batch(2, invalid=0.2)]
    elif case == 'task missing in one':
        micro = [toy_batch(0), toy_batch(1, tasks=('a', 'c')), toy_batch(2, invalid=0.4)]
    elif case == 'unequal sizes':
        micro = [toy_batch(0, size=2), toy_batch(1, size=5), toy_batch(2, size=1)]
    large, small = make_model(), make_model()
    one, many = build(method, large), build(method, small, accumulative_counts=3)
    large.train_step(join(*micro), one)
    start = flat(small)
    for i, batch in enumerate(micro):
        assert torch.equal(start, flat(small)) == (i < 3)
        assert many.at_step_boundary == (i == 0)
        small.train_step(batch, many)
    assert many.at_step_boundary
    difference = (flat(large) - flat(small)).norm() / (flat(large) - start).norm()
    assert difference <= 1e-5
    if method == 'stgu':
        torch.testing.assert_close(one.affinity.matrix, many.affinity.matrix, rtol=1e-4, atol=1e-9)
        assert (many.affinity.matrix != 0).all()


@pytest.mark.parametrize('method', ['gd', 'stgu'])
@pytest.mark.parametrize('where', [0, 1, 2])
def test_the_mean_over_no_label_is_not_taken_for_a_loss(where, method):
    """It is nan in many models, which say that there is no label."""
    ends = []
    for mean in (0.0, float('nan')):
        model = make_model()
        wrapper, call = build(method, model, accumulative_counts=3), model.forward

        def forward(*args, call=call, mean=mean, **kwargs):
            out = call(*args, **kwargs)
            out['b.loss'] = out['b.loss'] if out['b.num_valid'] else out['b.loss'] * mean
            return out

        model.forward = forward
        for number in range(3):
            batch = toy_batch(number)
            if number == where:
                batch['targets']['b'].fill_(float('nan'))
            model.train_step(batch, wrapper)
        assert wrapper.guard.total == {}
        ends.append(flat(model))
    assert torch.equal(*ends)


def test_last_incomplete_step_is_not_lost():
    model = make_model()
    wrapper = build('gd', model, accumulative_counts=4)
    wrapper.initialize_count_status(model, 0, 6)
    before = flat(model)
    weights = []
    for i in range(6):
        model.train_step(toy_batch(i), wrapper)
        weights.append(flat(model))
    assert torch.equal(weights[2], before)
    assert not torch.equal(weights[3], before)
    assert torch.equal(weights[4], weights[3])
    assert not torch.equal(weights[5], weights[4])


def test_nonfinite_micro_batch_takes_its_task_out():
    clean, dirty = make_model(), make_model()
    micro = [toy_batch(0), toy_batch(1)]
    poisoned = [toy_batch(0), toy_batch(1)]
    poisoned[1]['targets']['b'][0, 0, 0, 0] = float('inf')
    for batch in micro:
        del batch['targets']['b']
    for model, batches in ((clean, micro), (dirty, poisoned)):
        wrapper = build('gd', model, accumulative_counts=2)
        for batch in batches:
            model.train_step(batch, wrapper)
    assert torch.equal(flat(clean), flat(dirty))


def test_bad_count_is_refused():
    with pytest.raises(ValueError, match='accumulative_counts must be an integer >= 1, but got 0'):
        build('gd', make_model(), accumulative_counts=0)


@pytest.mark.parametrize('weighting', [dict(type='DWA', window=1), dict(type='GLS'), dict(type='SLAW')])
def test_weights_that_follow_the_batch_accumulate_exactly(weighting):
    large, small = make_model(), make_model()
    one, many = build('gd', large, weighting=weighting), build('gd', small, weighting=weighting, accumulative_counts=2)
    for wrapper in (one, many):
        wrapper.optimizer.param_groups[0]['lr'] = 0.1
    for step in range(4):
        micro = [toy_batch(2 * step), toy_batch(2 * step + 1, invalid=0.5)]
        large.train_step(join(*micro), one)
        for batch in micro:
            small.train_step(batch, many)
    assert (flat(large) - flat(small)).norm() <= 1e-5 * (flat(large) - flat(make_model())).norm()
