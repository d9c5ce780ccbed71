"""What is not finite: found whatever its size and type, counted once per batch, endured for so long."""

import logging
import math

import pytest
import torch

from mtl_plugins.engine import MultiTaskOptimWrapper, NonFiniteError
from mtl_plugins.engine.optim_wrappers import GradientAggregationOptimWrapper
from mtl_plugins.engine.step.nonfinite import NonFiniteGuard, all_finite

from .toy import flat, make_model, toy_batch

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize('dtype', DTYPES)
def test_large_numbers_are_finite_and_one_bad_element_is_found(dtype):
    """The largest numbers of a type are finite, though their squares are not."""
    largest = torch.full((40,), torch.finfo(dtype).max, dtype=dtype)
    assert all_finite([largest, -largest, torch.zeros(3, dtype=dtype)])
    for value in (math.nan, math.inf, -math.inf):
        for place in (0, 1):
            gradients = [largest.clone(), torch.zeros(3, dtype=dtype)]
            gradients[place][-1] = value
            assert not all_finite(gradients)


def batches(guard, *names):
    """Report each of ``names`` in a batch of its own; None is a good batch."""
    for name in names:
        if name is not None:
            guard.report(name)
        guard.end_batch()


@pytest.mark.parametrize('patience', [0, 1, 3])
def test_patience_counts_batches_in_a_row_per_name(patience):
    guard = NonFiniteGuard(patience=patience)
    for name, what in (('a', "the loss of task 'a'"), (NonFiniteGuard.GRADIENT, 'gradient')):
        batches(guard, *[name] * patience, None, *[name] * patience, 'other' if patience else None, *[name] * patience)
        with pytest.raises(NonFiniteError, match=f'{what}.* for {patience + 1} batches in a row .*patience={patience}'):
            batches(guard, name)
        batches(guard, None)
    assert guard.total['a'] == 3 * patience + 1


def test_a_name_counts_once_per_batch_and_is_said_once_per_run(caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        guard = NonFiniteGuard(patience=1)
        for _ in range(3):
            guard.report('a')
        guard.end_batch()
        guard.end_batch()
        batches(guard, 'a', None, 'b')
    finally:
        logger.removeHandler(caplog.handler)
    assert guard.total == dict(a=2, b=1)
    found = [record for record in caplog.records if 'is not finite' in record.getMessage()]
    assert [record.levelno for record in found] == [logging.WARNING] * 2
    assert ['nonfinite/a' in found[0].getMessage(), 'nonfinite/b' in found[1].getMessage()] == [True, True]


def test_a_resumed_run_goes_on_counting():
    guard = NonFiniteGuard(patience=3)
    batches(guard, 'a', 'a')
    resumed = NonFiniteGuard(patience=3)
    resumed.load_state_dict(guard.state_dict())
    assert resumed.state_dict() == guard.state_dict()
    batches(guard, 'a')
    batches(resumed, 'a')
    assert resumed.state_dict() == guard.state_dict()
    assert resumed.total == dict(a=3)
    with pytest.raises(NonFiniteError, match='for 4 batches'):
        batches(resumed, 'a')


@pytest.mark.parametrize('patience', [-1, -5])
def test_negative_patience_is_refused(patience):
    with pytest.raises(ValueError, match=f'patience must be an integer >= 0, but got {patience}'):
        NonFiniteGuard(patience=patience)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_the_check_of_gradients_can_be_left_out(precision):
    for check in (True, False):
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        wrapper = MultiTaskOptimWrapper(optimizer, precision=precision, nonfinite=dict(check_grads=check))
        model.heads['a'][0].weight.register_hook(lambda grad: grad * math.nan)
        model.train_step(toy_batch(0), wrapper)
        assert torch.isfinite(flat(model)).all() == check
        assert wrapper.guard.total == ({'gradient': 1} if check else {})


@pytest.mark.parametrize(
    'wrap', [MultiTaskOptimWrapper, lambda p: GradientAggregationOptimWrapper(p, dict(type='Sum'))]
)
def test_a_sum_that_overflows_is_found_in_every_batch(wrap):
    """Each task's gradient is finite, and so is its loss; what they add up to is not."""
    weight = torch.nn.Parameter(torch.tensor([1e-30, 1e-30]))
    wrapper = wrap(torch.optim.SGD([weight], lr=1e-38))
    for _ in range(3):
        wrapper.step_tasks(lambda active=None, *, grad=True: dict.fromkeys('ab', 2e38 * weight.sum()))
    assert wrapper.guard.total == dict(gradient=3)
    assert weight.tolist() == torch.tensor([1e-30, 1e-30]).tolist()
