"""What the ranks of test_distributed.py run; results are saved per rank as ``rank<r>.pt``."""

from __future__ import annotations

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from mtl_plugins.engine import MultiTaskOptimWrapper, SelectiveTaskGroupOptimWrapper
from mtl_plugins.engine.optim_wrappers import GradientAggregationOptimWrapper

from .toy import TASKS, flat, make_model, toy_batch

CASES = {
    'equal': [dict(), dict()],
    'unequal valid': [dict(), dict(invalid=0.7)],
    'task missing on one rank': [dict(), dict(tasks=('a', 'c'), invalid=0.3)],
    'task missing everywhere': [dict(tasks=('a', 'c')), dict(tasks=('a', 'c'), invalid=0.3)],
    'rank without labels': [dict(invalid=0.2), dict(tasks=())],
}


def build(method, model, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    if method == 'gd':
        return MultiTaskOptimWrapper(optimizer, **kwargs)
    return SelectiveTaskGroupOptimWrapper(
        optimizer, grouper=dict(type='Singletons'), seed=0, probe_interval=1, **kwargs
    )


def wrap(model):
    return MMDistributedDataParallel(model, broadcast_buffers=False)


def record_gradients(wrapper, seen):
    """Keep the gradient that reaches the optimizer."""
    step = wrapper.step

    def spy(**kwargs):
        seen.append([None if p.grad is None else p.grad.clone() for p in wrapper._trainable()])
        return step(**kwargs)

    wrapper.step = spy


def one_step(method, case, rank):
    model = wrap(make_model())
    wrapper = build(method, model)
    gradients = []
    record_gradients(wrapper, gradients)
    model.train_step(toy_batch(rank, **CASES[case][rank]), wrapper)
    return dict(weights=flat(model), gradients=gradients)


def long_run(rank, **kwargs):
    """60 batches with groups that follow the affinity."""
    model = wrap(make_model(dropout=0.2))
    torch.manual_seed(100 + rank)
    wrapper = SelectiveTaskGroupOptimWrapper(
        torch.optim.Adam(model.parameters(), lr=1e-2),
        affinity=dict(type='ProximalAffinity', decay=0.2),
        warmup_iters=5,
        **kwargs,
    )
    groups = []
    for i in range(60):
        tasks = ('a', 'b') if (i + rank) % 5 == 0 else TASKS
        model.train_step(toy_batch(2 * i + rank, invalid=0.3 * rank, tasks=tasks), wrapper)
        groups.append(wrapper.group_names)
    return dict(
        weights=flat(model), groups=groups, affinity=wrapper.affinity.matrix, seed=wrapper.generator.initial_seed()
    )


def nonfinite_on_one_rank(rank):
    model = wrap(make_model())
    wrapper = build('stgu', model)
    batch = toy_batch(rank)
    if rank == 1:
        batch['targets']['b'].fill_(float('inf'))
    model.train_step(batch, wrapper)
    return dict(weights=flat(model), total=wrapper.guard.total)


def against_stock_ddp(rank):
    runs = []
    for make in (OptimWrapper, MultiTaskOptimWrapper):
        model = wrap(make_model(dropout=0.3, report_valid=False))
        wrapper = make(torch.optim.Adam(model.parameters(), lr=1e-2))
        torch.manual_seed(100 + rank)
        for i in range(10):
            model.train_step(toy_batch(2 * i + rank), wrapper)
        runs.append(flat(model))
    return runs


def accumulation(rank):
    model = wrap(make_model())
    wrapper = build('stgu', model, accumulative_counts=2)
    for batch in (toy_batch(rank, invalid=0.5 * rank), toy_batch(10 + rank, tasks=('a', 'c') if rank else TASKS)):
        model.train_step(batch, wrapper)
    return flat(model)


def features_level(rank):
    """MGDA's weights from gradients at the backbone's output; the samples of all ranks are its coordinates."""
    model = wrap(make_model())
    wrapper = GradientAggregationOptimWrapper(
        torch.optim.SGD(model.parameters(), lr=1.0), dict(type='MGDA'), level='features'
    )
    model.train_step(toy_batch(rank, invalid=0.5 * rank), wrapper)
    return flat(model)


def discovered_tasks(rank):
    """No names are configured and the model does not tell; rank 0 lacks a task in the first batch."""
    model = make_model()
    model.tasks = None
    model = wrap(model)
    wrapper = build('stgu', model)
    model.train_step(toy_batch(rank, tasks=('a', 'c') if rank == 0 else TASKS), wrapper)
    return sorted(wrapper.task_names)


def job(rank):
    return {
        'steps': {(m, case): one_step(m, case, rank) for m in ('gd', 'stgu') for case in CASES},
        'long': long_run(rank, seed=3),
        'no seed': long_run(rank),
        'in turns': long_run(rank, groups_per_batch=1, probe_interval=1),
        'nonfinite': nonfinite_on_one_rank(rank),
        'stock': against_stock_ddp(rank),
        'accumulation': accumulation(rank),
        'discovered': discovered_tasks(rank),
        'features': features_level(rank),
    }
