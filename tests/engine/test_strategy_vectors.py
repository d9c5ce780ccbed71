"""Frozen numbers of the authors' programs for methods with a step of their own; AdaTask's state over time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mtl_plugins.engine.optimizers import AdaTask
from mtl_plugins.methods import IMTLG, CAGrad, PCGrad

FOLDER = Path(__file__).parents[1] / 'data' / 'vectors'


def double(rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_ada_task_equals_the_authors_program():
    record = json.loads((FOLDER / 'adatask.json').read_text())
    settings = record['hyperparameters']
    shared, own = (torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (4, 2))
    optimizer = AdaTask([shared, own], lr=settings['lr'], betas=settings['betas'], eps=settings['eps'])
    for step, rows in enumerate(record['shared_grads_TxKxD']):
        own.grad = double(record['task_specific_grads_Tx2'][step])
        optimizer.step(task_grads={shared: double(rows)}, task_ids=range(3), num_tasks=3)
        for found, name in ((shared, 'shared'), (own, 'task_specific')):
            expected = double(record[f'{name}_param_after_each_step'][step])
            torch.testing.assert_close(found.detach(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('base', ['Adam', 'RMSprop', 'Adagrad'])
def test_ada_task_with_one_task_is_its_base(base):
    """And for a task's own parameter too, with weight decay and amsgrad where the base has it."""
    options = dict(lr=0.01, weight_decay=0.1, eps=1e-8, **(dict(amsgrad=True) if base == 'Adam' else {}))
    ours, own, plain = (torch.nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(3))
    optimizer = AdaTask([ours, own], base=base, **options)
    reference = getattr(torch.optim, base)([plain], **options)
    for step in range(6):
        gradient = torch.randn(5, generator=torch.Generator().manual_seed(step))
        own.grad, plain.grad = gradient.clone(), gradient.clone()
        optimizer.step(task_grads={ours: gradient[None].clone()}, task_ids=[0], num_tasks=1)
        reference.step()
    torch.testing.assert_close(ours.detach(), plain.detach(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(own.detach(), plain.detach(), rtol=1e-5, atol=1e-7)


def test_a_parameter_that_becomes_shared_starts_anew():
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = AdaTask([parameter], lr=0.01)
    for ids in ((), (0, 2), (), (1,)):
        parameter.grad = torch.ones(2)
        before = parameter.detach().clone()
        gradients = {parameter: torch.ones(len(ids), 2)} if ids else None
        optimizer.step(task_grads=gradients, task_ids=ids, num_tasks=3)
        torch.testing.assert_close(before - parameter.detach(), torch.full((2,), 0.01 * max(len(ids), 1)))


# fmtl.json, results 0 and 1: the program solves CAGrad by scipy's SLSQP with its default stopping rule, which ends 1e-5
# above the least value on the flat part. The test shows that the record is that solution, and that ours is better.
STOPPED_EARLY = (0, 1)
BASES = {'cagrad': CAGrad, 'imtl_g': lambda: IMTLG(), 'pcgrad': lambda order, reduction: PCGrad(order='ascending')}


def parts_and_record(index):
    vectors = json.loads((FOLDER / 'fmtl.json').read_text())
    record = vectors['results'][index]
    return [double(vectors[part]) for part in ('G_loss', 'G_flat')], record, double(record['update'])


@pytest.mark.parametrize('index', [i for i in range(4) if i not in STOPPED_EARLY])
def test_f_mtl_aggregates_its_two_parts_like_the_authors_program(index):
    parts, record, expected = parts_and_record(index)
    aggregator = BASES[record['base']](**record['hyperparameters'])
    update = sum(aggregator(rows) for rows in parts)
    assert (update - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize('index', STOPPED_EARLY)
def test_f_mtl_on_cagrad_is_nearer_to_the_solution_than_the_authors_program(index):
    parts, record, expected = parts_and_record(index)
    c = record['hyperparameters']['c']
    aggregator = CAGrad(**record['hyperparameters'])
    replayed, update = torch.zeros_like(expected), torch.zeros_like(expected)
    for rows in parts:
        mean = rows.mean(0)

        def value(weights, rows=rows, mean=mean):
            combined = torch.as_tensor(weights, dtype=torch.float64) @ rows
            return float(combined @ mean + c * mean.norm() * combined.norm())

        simplex = dict(type='eq', fun=lambda weights: 1 - weights.sum())
        stopped = minimize(value, np.full(3, 1 / 3), bounds=[(0, 1)] * 3, constraints=simplex)
        combined = double(stopped.x) @ rows
        replayed += (mean + c * mean.norm() / (combined.norm() + 1e-8) * combined) / (1 + c**2)

        # Our direction is (1 + c^2) u - g0 = c |g0| g_w / |g_w|; w minimises the value on the simplex if no vertex
        # improves on it to first order.
        part = aggregator(rows)
        update += part
        direction = (1 + c**2) * part - mean
        gradient = rows @ (mean + direction)
        weights = aggregator.last_weights * (1 + c**2) - 1 / 3
        weights = weights / weights.sum()
        residual = (weights @ gradient - gradient.min()) / gradient.abs().max()
        assert residual <= 1e-10
        assert value(weights) <= stopped.fun + 1e-12
    assert (replayed - expected).norm() <= 1e-6 * expected.norm()
    assert (update - expected).norm() <= 5e-3 * expected.norm()
