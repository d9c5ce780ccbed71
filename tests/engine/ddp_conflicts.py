"""What the two ranks of test_conflicts.py run."""

from __future__ import annotations

import torch
from mmengine.optim import OptimWrapper

from mtl_plugins.engine.hooks.task_grams import GramProbe
from mtl_plugins.engine.step.guards import bare_model

from .all_methods import CASES as METHOD_CASES
from .all_methods import build
from .ddp_worker import wrap
from .toy import flat, make_model, toy_batch

CASES = {**METHOD_CASES, 'task missing everywhere': [dict(tasks=('a', 'c')), dict(tasks=('a', 'c'))]}


def products(model, key, batch):
    """The products of the gradients on one batch."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)) if key == 'plain' else build(key, model)
    probe = GramProbe(bare_model(model), wrapper)
    gram = probe.measure(batch)
    return dict(tasks=list(probe.tasks), gram=gram)


def weights(rank, watch):
    """Weights after three steps, with a measurement before each or none."""
    model = wrap(make_model(dropout=0.3))
    wrapper = build('pcgrad', model, lr=1e-2)
    probe = GramProbe(bare_model(model), wrapper)
    torch.manual_seed(rank)
    for number in range(3):
        batch = toy_batch(2 * number + rank, tasks=('a', 'c') if rank == number == 1 else ('a', 'b', 'c'))
        if watch:
            probe.measure(batch)
        model.train_step(batch, wrapper)
    return flat(model)


def job(rank):
    found = {
        (key, case): products(wrap(make_model()), key, toy_batch(rank, **kinds[rank]))
        for key in ('plain', 'stgu')
        for case, kinds in CASES.items()
    }
    return {**found, 'watched': weights(rank, True), 'alone': weights(rank, False)}
