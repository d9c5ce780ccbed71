"""SON-GOKU against a loop that knows no engine, and its averages while columns change."""

import pytest
import torch

from mtl_plugins.engine.optim_wrappers import SelectiveTaskGroupOptimWrapper
from mtl_plugins.engine.step import reduction
from mtl_plugins.methods import GradientCosine, GraphColouring
from tests.support.thread_ranks import Ranks

from .all_methods import build
from .changing_graphs import LR, make, micro, prepare, run
from .toy import TASKS, flat, make_model, toy_batch

QUICK = dict(regroup_interval=2, grouper=dict(type='GraphColouring', tau_end=0.01, wait=1, anneal=1))


def slow_run(model, batches, seed):
    """Averages, graph and turns written out; plain gradient descent."""
    averages, generator = {}, torch.Generator().manual_seed(seed)
    turn, due, colours, seen = [], 0, [], []
    thresholds = [1.0, 1.0, *[0.01] * len(batches)]
    for step, batch in enumerate(batches):
        if not turn:
            if 1 + step // 2 > due:
                due = 1 + step // 2
                tau = thresholds.pop(0)
                torch.randint(2**31 - 1, (1,), generator=generator)
                foes = {t: [o for o in TASKS if o != t and cosine(averages, t, o) < -tau] for t in TASKS}
                taken = {}
                rows = {t: sorted(cosine(averages, t, other) for other in TASKS) for t in TASKS}
                for task in sorted(TASKS, key=lambda t: (-len(foes[t]), rows[t])):
                    taken[task] = min(set(range(3)) - {taken.get(foe) for foe in foes[task]})
                colours = [[t for t in TASKS if taken[t] == c] for c in sorted(set(taken.values()))]
            groups = sorted(colours, key=min)
            turn = [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]
        group = turn.pop(0)
        seen.append(group)
        losses = model(**batch, mode='loss')
        moved = {p: torch.zeros_like(p) for p in model.parameters()}
        for task in group:
            shared = list(model.backbone.parameters())
            everything = [*shared, *model.heads[task].parameters()]
            gradients = torch.autograd.grad(losses[f'{task}.loss'], everything, retain_graph=True)
            for parameter, gradient in zip(everything, gradients):
                moved[parameter] += gradient
            row = torch.cat([gradient.reshape(-1) for gradient in gradients[: len(shared)]])
            averages[task] = 0.9 * averages.get(task, torch.zeros_like(row)) + 0.1 * row
        with torch.no_grad():
            for parameter, step_of_it in moved.items():
                parameter -= 0.1 * step_of_it
    return averages, seen


def cosine(averages, one, other):
    if one not in averages or other not in averages:
        return 0.0
    return float(torch.nn.functional.cosine_similarity(averages[one], averages[other], dim=0))


def test_a_run_is_the_loop_written_out():
    ours, slow = make_model(), make_model()
    for model in (ours, slow):
        model.heads['b'].load_state_dict(model.heads['a'].state_dict())
    wrapper, stepped = build('son_goku', ours, **QUICK), []
    step = wrapper._step_group
    wrapper._step_group = lambda batch, group: (stepped.append(wrapper._names(group)), step(batch, group))[1]
    batches = [toy_batch(number) for number in range(24)]
    for batch in batches:
        batch['targets']['b'] = 1 - 5 * batch['targets']['a']
        ours.train_step(batch, wrapper)
    averages, seen = slow_run(slow, batches, seed=0)
    assert stepped == seen
    assert seen[0] == list(TASKS)
    assert len({len(group) for group in seen}) > 1, 'never a conflict, so the test shows nothing'
    torch.testing.assert_close(flat(ours), flat(slow), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        wrapper.affinity.buffer.data, torch.stack([averages[t] for t in TASKS]), rtol=1e-3, atol=1e-5
    )


def test_two_ranks_keep_the_averages_of_the_joint_batch(monkeypatch):
    def averages(model, batches, **kwargs):
        wrapper = build('son_goku', model, lr=LR, **kwargs)
        for batch in batches:
            model.train_step(batch, wrapper)
        return wrapper.affinity.buffer.data

    accumulated = averages(make('freeze'), [micro('freeze', 0, part, 2) for part in range(2)], accumulative_counts=2)
    ranks, models = Ranks(2), [make('freeze') for _ in range(2)]
    monkeypatch.setattr(reduction, 'dist', ranks)
    first, second = ranks.run(lambda rank: averages(models[rank], [micro('freeze', 0, rank, 2)]))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, accumulated)


def test_the_averages_follow_their_parameters_while_some_are_frozen():
    model = make('freeze')
    wrapper = build('son_goku', model, lr=LR)
    widths = []
    for number in range(4):
        prepare(model, 'freeze', number)
        model.train_step(micro('freeze', number), wrapper)
        widths.append(wrapper.affinity.buffer.data.shape[1])
    assert widths[2] < widths[0] == widths[3]


@pytest.mark.parametrize('options', [dict(), dict(groups_per_batch=1, idle_heads='step')])
def test_the_cosine_is_a_plug_in_for_any_grouper(options):
    affinity, grouper = dict(type='GradientCosine'), dict(type='PositiveAffinity')
    found = run(
        'stgu',
        'second user',
        batches=lambda n: [micro('second user', n)],
        affinity=affinity,
        grouper=grouper,
        **options,
    )
    assert all(torch.isfinite(value).all() for value in found['weights'][-1].values())
    model = make_model()
    wrapper = SelectiveTaskGroupOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), affinity, grouper, **options)
    model.train_step(toy_batch(0), wrapper)
    assert isinstance(wrapper.affinity, GradientCosine)


def test_a_threshold_falls_geometrically():
    grouper = GraphColouring(wait=2, anneal=4)
    seen = []
    for _ in range(9):
        seen.append(grouper.tau)
        grouper(torch.eye(2, dtype=torch.float64), torch.Generator())
    assert seen == pytest.approx([1, 1, 1, 0.25**0.25, 0.5, 0.25**0.75, 0.25, 0.25, 0.25])
