"""Gradients that are sent while the backward goes on: what arrives, in which order, how much, and when."""

from functools import partial

import pytest
import torch
from torch import nn

from mtl_plugins.engine.step import reduction
from mtl_plugins.engine.step.reduction import Reducer
from tests.support.thread_ranks import Ranks

from .all_methods import ROWS, build
from .changing_graphs import Changing
from .toy import TASKS, flat, make_model, toy_batch

KEYS = [key for key, row in ROWS.items() if row.kind in ('loss weighting', 'task groups')]
STEPS = 7


class Watched(Ranks):
    """Also writes down, per rank, the length of each sum of gradients and whether the rank goes on meanwhile."""

    def __init__(self, size):
        super().__init__(size)
        self.events = [[] for _ in range(size)]

    def note(self, kind, number):
        self.events[self.get_rank()].append((kind, number))

    def all_reduce(self, tensor, op=Ranks.ReduceOp.SUM, async_op=False):
        kind = 'sent' if async_op else 'summed' if op == self.ReduceOp.SUM else 'flags'
        self.note(kind, tensor.numel())
        return super().all_reduce(tensor, op, async_op)


def batch_of(number, rank):
    """Something is new on one rank in almost every step; in the last one nobody reaches what is expected."""
    tasks = {1: () if rank == 1 else TASKS, 2: ('a', 'c') if rank == 0 else TASKS, 4: ('b', 'c')}.get(number, TASKS)
    return dict(
        toy_batch(10 * number + rank, size=2, tasks=tasks, invalid=0.3 * rank),
        skip=number in (0, 6, 9) or (number == 5 and rank == 1),
        second=number >= 3 and rank == 0,
    )


def late_news(number, rank):
    """What a task has reached on one rank arrives on the other for the first time, when it has been sent already."""
    return dict(
        toy_batch(10 * number + rank, size=2, tasks=('b', 'c')), second=(number, rank) in ((1, 0), (2, 0), (2, 1))
    )


def run(monkeypatch, key, size, overlaps=True, make=Changing, batch=batch_of, elements=40, **settings):
    """Weights of each rank after each step, what was exchanged, and the wrapper of rank 0."""
    monkeypatch.setattr(Reducer.__init__, '__defaults__', (elements * 4 / 2**20,))
    # Threads share the cache of casts, and each empties it when it leaves its forward.
    monkeypatch.setattr(torch, 'autocast', partial(torch.amp.autocast_mode.autocast, cache_enabled=False))
    torch.manual_seed(0)
    first = make().train()
    models = [first, *(make().train() for _ in range(size - 1))]
    for model in models[1:]:
        model.load_state_dict(first.state_dict())
    world = Watched(size)
    monkeypatch.setattr(reduction, 'dist', world)
    wrappers = [build(key, model, lr=0.02, tasks=TASKS, **settings) for model in models]
    for group in (group for wrapper in wrappers for group in wrapper.optimizer.param_groups):
        group.update(momentum=0.5, weight_decay=0.1)  # by which a gradient of zero moves what none leaves alone

    def job(rank):
        model, seen = models[rank], []
        wrappers[rank].attach(model)
        wrappers[rank].reducer.graph_communicates |= not overlaps
        for number in range(STEPS * settings.get('accumulative_counts', 1)):
            if isinstance(model, Changing):
                model.stem.requires_grad_(number != 3)
            world.note('step', number)
            model.train_step(batch(number, rank), wrappers[rank])
            seen.append(flat(model))
        return torch.stack(seen)

    return world.run(job), world.events


def exchanged(events, kinds=('sent', 'summed')):
    """Lengths of what a rank exchanged, by step."""
    steps = []
    for kind, number in events:
        if kind == 'step':
            steps.append([])
        elif kind in kinds:
            steps[-1].append(number)
    return steps


@pytest.mark.parametrize(
    ('keys', 'size', 'settings'),
    [
        (['gd', 'famo', 'stgu', 'phases'], 2, {}),
        pytest.param(KEYS, 2, {}, marks=pytest.mark.slow),
        (['stgu'], 3, {}),
        (['gd', 'stgu'], 2, dict(accumulative_counts=2)),
        (['stgu'], 2, dict(precision=dict(precision='fp16', init_scale=2.0**6))),
        (['gd'], 2, dict(precision='bf16', clip_grad=dict(max_norm=0.1))),
        (['gd'], 2, dict(elements=1, batch=late_news)),
    ],
)
def test_weights_are_those_of_sums_after_the_backward(keys, size, settings, monkeypatch):
    for key in keys:
        found, events = run(monkeypatch, key, size, **settings)
        expected, before = run(monkeypatch, key, size, overlaps=False, **settings)
        assert all(torch.equal(found[0], other) for other in found[1:]), key
        if size == 2:
            assert torch.equal(found[0], expected[0]), key
        torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
        order = [[event for event in each if event[0] != 'step'] for each in events]
        assert all(other == order[0] for other in order), key
        # Gradients that tasks have by themselves are no sum of a backward.
        assert any(kind == 'sent' for kind, _ in order[0]) == (key != 'son_goku'), key
        assert not any(kind == 'sent' for kind, _ in before[0]), key


class SyncBatchNorm(nn.Identity):
    """Has the name of layers that exchange something in their backward."""


def toy(sync):
    """A toy that tells when the first layer, which is the last, gets its gradients."""
    model = make_model()
    model.backbone[1] = SyncBatchNorm() if sync else nn.Identity()
    for parameter in model.backbone[0].parameters():
        parameter.register_post_accumulate_grad_hook(lambda _: reduction.dist.note('end', 0))
    return model


@pytest.mark.parametrize('key', ['gd', 'stgu'])
def test_no_more_is_exchanged_and_most_of_it_before_the_backward_ends(key, monkeypatch):
    groups = dict(grouper=dict(type='Singletons')) if key == 'stgu' else {}
    same = dict(batch=lambda number, rank: toy_batch(10 * number + rank, invalid=0.3 * rank), **groups)
    _, events = run(monkeypatch, key, 2, make=lambda: toy(False), **same)
    # Where the model exchanges something itself, ranks with different graphs would get out of step.
    _, before = run(monkeypatch, key, 2, make=lambda: toy(True), **same)
    assert not any(kind == 'sent' for rank in before for kind, _ in rank)
    for rank in range(2):
        for here, there in zip(exchanged(events[rank])[1:], exchanged(before[rank])[1:], strict=True):
            assert (len(here), sum(here)) == (len(there), sum(there))
        kinds = [kind for kind, _ in events[rank]]
        later = kinds[kinds.index('step', 1) :]
        backwards = ' '.join(kind for kind in later if kind in ('sent', 'end', 'summed')).split('summed')
        assert {' '.join(each.split()) for each in backwards if each.split()} == {'sent sent end sent end sent'}
