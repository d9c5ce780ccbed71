"""Gradient accumulation measures every micro-batch first: the forward that is differentiated sees the same noise."""

import itertools
import random

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper

from .all_methods import ROWS, build
from .toy import TASKS, flat, make_model, toy_batch

EXACT = [key for key, row in ROWS.items() if row.accumulates_exactly]


def torch_noise(features):
    return torch.nn.functional.dropout(features, 0.4)


def python_noise(features):
    """LayerDrop as many transformers have it."""
    return features * (0.1 + random.random())


def numpy_noise(features):
    return features * (0.1 + np.random.rand())  # noqa: NPY002 - what models of others use


def noisy_model(noise):
    model = make_model(report_valid=False)
    model.backbone.register_forward_hook(lambda module, inputs, output: noise(output))
    return model


def seed_everything(number):
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002


@pytest.mark.parametrize('noise', [torch_noise, python_noise, numpy_noise])
def test_accumulated_gd_is_the_stock_wrapper(noise):
    """Same weights, same log, and the random streams end where the stock wrapper leaves them."""
    results = []
    for ours in (True, False):
        model = noisy_model(noise)
        if ours:
            wrapper = build('gd', model, accumulative_counts=2, same_noise=False)
        else:
            wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2)
        wrapper.initialize_count_status(model, 0, 6)
        seed_everything(0)
        logs = [model.train_step(toy_batch(number), wrapper)['loss'].item() for number in range(6)]
        results.append((flat(model), logs, torch.get_rng_state(), random.random(), np.random.rand()))  # noqa: NPY002
    (weights, logs, *streams), (stock_weights, stock_logs, *stock_streams) = results
    torch.testing.assert_close(weights, stock_weights, rtol=1e-5, atol=1e-6)
    assert logs == pytest.approx(stock_logs, rel=1e-5)
    assert torch.equal(streams[0], stock_streams[0])
    assert streams[1:] == stock_streams[1:]


@pytest.mark.parametrize('key', EXACT)
def test_every_method_differentiates_what_it_measured(key):
    """In a loop of one's own, whose closure knows nothing of noise."""
    model = noisy_model(torch_noise)
    wrapper = build(key, model, tasks=TASKS, accumulative_counts=2)
    wrapper.attach(model)
    wrapper.initialize_count_status(model, 0, 4)
    calls = {}

    def closure_for(number):
        def closure(active=None, *, grad=True):
            with torch.set_grad_enabled(grad):
                losses = model(**toy_batch(number), mode='loss')
            losses = {key.split('.')[0]: loss for key, loss in losses.items()}
            calls.setdefault(number, []).append((grad, {task: loss.item() for task, loss in losses.items()}))
            return losses

        return closure

    torch.manual_seed(1)
    for number in range(4):
        wrapper.step_tasks(closure_for(number))
    pairs = [(a, b) for seen in calls.values() for a, b in itertools.pairwise(seen) if b[0]]
    assert len(calls) == 4
    assert len(pairs) >= 4
    for (_, measured), (_, differentiated) in pairs:
        assert differentiated == measured
    values = [each['a'] for seen in calls.values() for _, each in seen]
    assert len(set(values)) >= 4


def test_the_replaced_first_forward_sees_its_noise_again():
    """A closure whose captured forward lacks the graph that is asked for runs the model again: same losses."""
    results = []
    for request in (('a',), None):
        model = noisy_model(torch_noise)
        wrapper = build('gd', model, tasks=TASKS)
        wrapper.first_request = lambda request=request: request
        torch.manual_seed(0)
        model.train_step(toy_batch(0), wrapper)
        results.append((flat(model), torch.get_rng_state()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
