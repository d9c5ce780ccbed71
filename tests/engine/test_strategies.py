"""The step strategies against plain PyTorch and MMEngine, bit for bit."""

import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from mtl_plugins.engine import (
    MultiTaskOptimWrapper,
    NonFiniteError,
    ReleasedTaskGroupOptimWrapper,
    SelectiveTaskGroupOptimWrapper,
)

from .toy import TASKS, flat, make_model, toy_batch

SINGLES = [[task] for task in TASKS]


def train(model, wrapper, iterations=12, **batch):
    torch.manual_seed(7)
    for i in range(iterations):
        model.train_step(toy_batch(i, **batch), wrapper)
    return model


def adam(model, lr=1e-2):
    return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=1e-2)


def stgu(model, **kwargs):
    return SelectiveTaskGroupOptimWrapper(adam(model), **{'seed': 0, **kwargs})


@pytest.mark.parametrize('idle_without_graph', [True, False])
@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=0.1)])
def test_weighted_sum_equals_plain_wrapper(idle_without_graph, clip_grad):
    options = dict(dropout=0.3, batch_norm=True, idle_without_graph=idle_without_graph)
    plain, ours, grouped = (make_model(**options) for _ in range(3))
    train(plain, OptimWrapper(adam(plain), clip_grad=dict(clip_grad) if clip_grad else None))
    train(ours, MultiTaskOptimWrapper(adam(ours), clip_grad=clip_grad))
    one_group = dict(grouper=dict(type='AllTasks'), warmup_iters=0, probe_interval=0)
    train(grouped, stgu(grouped, clip_grad=clip_grad, **one_group))
    assert torch.equal(flat(plain), flat(ours))
    assert torch.equal(flat(plain), flat(grouped))
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, dict(grouped.named_buffers())[name]), name


def test_fixed_singletons_equal_a_plain_loop():
    """The definition of STGU's step, written out: one forward, backward and Adam step per task, in the drawn order."""
    ours, plain = make_model(), make_model()
    wrapper = stgu(ours, grouper=dict(type='Fixed', groups=SINGLES), probe_interval=0, seed=3)
    optimizer = adam(plain)
    # The wrapper draws one number per grouping and one permutation per batch from its private generator.
    generator = torch.Generator().manual_seed(3)
    for i in range(130):
        batch = toy_batch(i)
        ours.train_step(batch, wrapper)
        if i >= 100 and i % 10 == 0:
            torch.randint(2**31 - 1, (1,), generator=generator)
        for index in torch.randperm(3, generator=generator).tolist():
            losses = plain(**batch, mode='loss')
            losses[f'{TASKS[index]}.loss'].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    assert torch.equal(flat(ours), flat(plain))
    for p, q in zip(ours.parameters(), plain.parameters()):
        for key, value in optimizer.state[q].items():
            assert torch.equal(value, wrapper.optimizer.state[p][key]), key


@pytest.mark.parametrize('idle_without_graph', [True, False])
def test_idle_heads_do_not_move(idle_without_graph):
    model = make_model(idle_without_graph=idle_without_graph)
    wrapper = stgu(model, grouper=dict(type='Singletons'), seed=0)
    train(model, wrapper, 3)
    seen = []
    moving = wrapper.finish_step

    def watch():
        before = {t: [p.clone() for p in model.heads[t].parameters()] for t in TASKS}
        states = {t: [dict(wrapper.optimizer.state[p]) for p in model.heads[t].parameters()] for t in TASKS}
        states = {t: [{k: v.clone() for k, v in s.items()} for s in states[t]] for t in TASKS}
        moved = moving()
        for task in TASKS:
            now = list(model.heads[task].parameters())
            weights_same = all(torch.equal(p, q) for p, q in zip(before[task], now))
            states_same = all(
                torch.equal(v, wrapper.optimizer.state[p][k]) for p, s in zip(now, states[task]) for k, v in s.items()
            )
            assert weights_same == states_same
            seen.append((task, weights_same))
        return moved

    wrapper.finish_step = watch
    model.train_step(toy_batch(99), wrapper)
    assert sorted(seen).count(('a', False)) == 1
    assert sum(not same for _, same in seen) == 3
    assert len(seen) == 9


def test_released_preset_moves_idle_heads():
    """torch 1.13's zero-filled gradients: an idle head goes on by momentum, as in the published runs."""
    model = make_model()
    wrapper = ReleasedTaskGroupOptimWrapper(adam(model), seed=0)
    train(model, wrapper, 2)
    before = {task: flat(model.heads[task]) for task in TASKS}
    moved = []
    finish = wrapper.finish_step

    def watch():
        finish()
        moved.append([not torch.equal(before[t], flat(model.heads[t])) for t in TASKS])

    wrapper.finish_step = watch
    model.train_step(toy_batch(5), wrapper)
    assert moved[0] == [True, True, True]


def test_released_preset_steps_a_single_group_twice():
    model = make_model()
    wrapper = ReleasedTaskGroupOptimWrapper(adam(model), grouper=dict(type='AllTasks'), warmup_iters=0)
    train(model, wrapper, 4)
    steps = {int(state['step']) for state in wrapper.optimizer.state.values()}
    assert steps == {8}
    assert (wrapper.affinity.matrix != 0).any()


def test_affinity_is_credited_to_the_group_that_stepped():
    """With groups [a], [b], [c] in a known order, row s of the map is what the step on s did to each loss."""
    model = make_model()
    wrapper = SelectiveTaskGroupOptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.05),
        affinity=dict(type='ProximalAffinity', decay=1.0),
        probe_interval=1,
        seed=5,
    )
    batch = toy_batch(1)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(5)).tolist()
    copy = make_model()
    optimizer = torch.optim.SGD(copy.parameters(), lr=0.05)
    expected = torch.zeros(3, 3, dtype=torch.float64)

    def losses():
        out = copy(**batch, mode='loss')
        return torch.stack([out[f'{t}.loss'] for t in TASKS])

    for index in order:
        before = losses()
        before[index].backward()
        optimizer.step()
        optimizer.zero_grad()
        expected[index] = 1 - losses().detach().double() / before.detach().double()
    model.train_step(batch, wrapper)
    torch.testing.assert_close(wrapper.affinity.matrix, expected, rtol=1e-6, atol=1e-7)


def test_listing_order_of_tasks_changes_nothing():
    """Relabelling the tasks relabels stgu's groups and nothing else; the released clustering fails this."""
    runs = {}
    for order in (('a', 'b', 'c'), ('c', 'a', 'b')):
        model = make_model(dropout=0.2)
        wrapper = stgu(model, tasks=order, affinity=dict(type='ProximalAffinity', decay=0.2), warmup_iters=5)
        history = []
        torch.manual_seed(7)
        for i in range(60):
            model.train_step(toy_batch(i), wrapper)
            history.append(sorted(sorted(group) for group in wrapper.group_names))
        runs[order] = flat(model), history, wrapper
    (weights, groups, first), (weights2, groups2, second) = runs.values()
    assert groups == groups2
    assert len({str(g) for g in groups}) > 1, 'the groups never changed, so the test shows nothing'
    assert torch.equal(weights, weights2)
    places = [second.task_names.index(task) for task in first.task_names]
    assert torch.equal(first.affinity.matrix, second.affinity.matrix[places][:, places])


def test_probe_interval_measures_last_group():
    model = make_model()
    wrapper = stgu(model, grouper=dict(type='AllTasks'), warmup_iters=0, probe_interval=5)
    forwards = []
    log = wrapper._log
    wrapper._log = lambda batch: (forwards.append(batch.num_measurements), log(batch))
    train(model, wrapper, 10)
    assert forwards == [1, 1, 1, 1, 2] * 2
    assert (wrapper.affinity.matrix != 0).all()


@pytest.mark.parametrize('grouper', [dict(type='AffinityPropagation'), dict(type='PositiveAffinity', max_groups=1)])
def test_no_probe_is_refused_where_one_group_can_come(grouper):
    with pytest.raises(ValueError, match='probe_interval=0 never measures the last group'):
        stgu(make_model(), grouper=grouper, probe_interval=0)


def test_passes_repeat_the_batch():
    ours, plain = make_model(), make_model()
    train(ours, MultiTaskOptimWrapper(adam(ours), passes=3), 4)
    optimizer = adam(plain)
    for i in range(4):
        for _ in range(3):
            losses = plain(**toy_batch(i), mode='loss')
            sum(value for key, value in losses.items() if 'loss' in key).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert torch.equal(flat(ours), flat(plain))


@pytest.mark.parametrize('method', ['gd', 'stgu'])
def test_absent_task_is_left_out(method):
    """A task without labels: its head stays, it gets no affinity, and the others train as if it did not exist."""
    results = []
    for tasks in (TASKS, ('a', 'c')):
        model = make_model()
        fixed = dict(grouper=dict(type='Fixed', groups=[list(tasks)]), warmup_iters=0, probe_interval=1)
        wrapper = (
            MultiTaskOptimWrapper(adam(model), tasks=tasks) if method == 'gd' else stgu(model, tasks=tasks, **fixed)
        )
        head = flat(model.heads['b'])
        train(model, wrapper, 5, tasks=('a', 'c'))
        assert torch.equal(head, flat(model.heads['b']))
        results.append((flat(model), wrapper))
    assert torch.equal(results[0][0], results[1][0])
    if method == 'stgu':
        matrix = results[0][1].affinity.matrix
        assert (matrix[1] == 0).all()
        assert (matrix[:, 1] == 0).all()
        assert torch.equal(matrix[[0, 2]][:, [0, 2]], results[1][1].affinity.matrix)


def test_zero_valid_elements_count_as_absent():
    model = make_model()
    wrapper = MultiTaskOptimWrapper(adam(model))
    batch = toy_batch(0)
    batch['targets']['b'].fill_(float('nan'))
    head = flat(model.heads['b'])
    model.train_step(batch, wrapper)
    assert torch.equal(head, flat(model.heads['b']))
    assert not torch.equal(flat(make_model().heads['a']), flat(model.heads['a']))


@pytest.mark.parametrize('method', ['gd', 'stgu'])
def test_one_nonfinite_loss_leaves_the_others_alone(method):
    results = []
    for poison in (True, False):
        model = make_model()
        wrapper = (
            MultiTaskOptimWrapper(adam(model))
            if method == 'gd'
            else stgu(model, grouper=dict(type='AllTasks'), warmup_iters=0, probe_interval=1)
        )
        batch = toy_batch(0)
        if poison:
            batch['targets']['b'][0, 0, 0, 0] = math.inf
        else:
            del batch['targets']['b']
        model.train_step(batch, wrapper)
        results.append(flat(model))
        assert wrapper.guard.total == ({'b': 1} if poison else {})
    assert torch.isfinite(results[0]).all()
    assert torch.equal(*results)


def test_training_stops_after_patience():
    model = make_model()
    wrapper = MultiTaskOptimWrapper(adam(model), nonfinite=dict(patience=3))
    bad = toy_batch(0)
    bad['targets']['b'].fill_(math.inf)
    for _ in range(2):
        model.train_step(bad, wrapper)
    model.train_step(toy_batch(1), wrapper)  # a good batch starts the count anew
    for _ in range(3):
        model.train_step(bad, wrapper)
    with pytest.raises(NonFiniteError, match="the loss of task 'b' was not finite for 4 batches in a row"):
        model.train_step(bad, wrapper)


def test_nonfinite_gradient_skips_the_step():
    model = make_model()
    wrapper = MultiTaskOptimWrapper(adam(model))
    model.heads['a'][0].weight.register_hook(lambda grad: grad * math.inf)
    before = flat(model)
    model.train_step(toy_batch(0), wrapper)
    assert torch.equal(before, flat(model))
    assert wrapper.guard.total == {'gradient': 1}
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize('policy', ['first', 'every', 'active'])
def test_batch_norm_policy(policy):
    model = make_model(batch_norm=True)
    wrapper = stgu(model, grouper=dict(type='Singletons'), bn_stats=policy, probe_interval=0)
    train(model, wrapper, 6)
    backbone = int(model.backbone[1].num_batches_tracked)
    heads = [int(model.heads[task][1].num_batches_tracked) for task in TASKS]
    if policy == 'first':
        assert (backbone, heads) == (6, [6] * 3)
    elif policy == 'every':
        assert (backbone, heads) == (18, [18] * 3)
    else:
        # In the very first batch it is not known yet which layers belong to idle heads.
        assert (backbone, heads) == (18, [3 + 5] * 3)
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_same_noise_replays_masks_and_leaves_the_stream_alone():
    def losses_of_forwards(same_noise):
        model = make_model(dropout=0.5)
        wrapper = SelectiveTaskGroupOptimWrapper(
            torch.optim.SGD(model.parameters(), lr=0.0), same_noise=same_noise, probe_interval=1, seed=0
        )
        seen = []
        torch.manual_seed(7)
        model_forward = model.forward

        def spy(*args, **kwargs):
            out = model_forward(*args, **kwargs)
            seen.append([out[f'{t}.loss'].item() for t in TASKS])
            return out

        model.forward = spy
        model.train_step(toy_batch(0), wrapper)
        return seen, torch.rand(1).item()

    same, after_same = losses_of_forwards(True)
    fresh, after_fresh = losses_of_forwards(False)
    assert len(same) == len(fresh) == 4
    assert all(row == same[0] for row in same)
    assert any(row != fresh[0] for row in fresh)
    # One forward consumed the global stream, whatever the number of groups; without replay all four did.
    model = make_model(dropout=0.5)
    torch.manual_seed(7)
    model(**toy_batch(0), mode='loss')
    assert torch.rand(1).item() == after_same != after_fresh


def test_own_loop_without_hooks():
    """``step_tasks`` takes any closure: no MMEngine model, no Runner."""
    layer = torch.nn.Linear(3, 2)
    wrapper = SelectiveTaskGroupOptimWrapper(
        torch.optim.SGD(layer.parameters(), lr=0.1), tasks=['x', 'y'], warmup_iters=2, seed=0
    )
    inputs, target = torch.randn(8, 3), torch.randn(8, 2)

    def closure(active=None, *, grad=True):
        with torch.set_grad_enabled(grad):
            error = (layer(inputs) - target).square().mean(0)
        return {'x': error[0], 'y': error[1]}

    start = sum(closure().values()).item()
    for _ in range(20):
        wrapper.step_tasks(closure)
    assert sum(closure().values()).item() < start
