"""Rows that are spread over ranks: the updates of rows held in full, what is sent, what is held, what is saved."""

import pytest
import torch

from mtl_plugins.engine.optim_wrappers.combining import RowCombiner
from mtl_plugins.engine.step import reduction, row_shards
from mtl_plugins.engine.step.kept_columns import KeptColumns
from mtl_plugins.engine.step.reduction import Reducer
from mtl_plugins.engine.step.row_shards import Shard
from mtl_plugins.methods.aggregation.buffers import TaskBuffer
from mtl_plugins.runtime.hooks import RNGStateHook
from tests.support.runs import differences
from tests.support.thread_ranks import Ranks

from .all_methods import ROWS, build, record_gradients
from .toy import TASKS, ToyModel, flat, make_model, toy_batch

KEYS = [key for key, row in ROWS.items() if row.kind == 'gradient aggregation']
BATCHES = [dict(), dict(tasks=('a', 'c'), invalid=0.3), dict(tasks=()), dict(invalid=0.6)]
SETTINGS = {
    'plain': {},
    'normalised': dict(normalise='l2'),
    '16 bits': dict(row_dtype='bf16'),
    'accumulated': dict(accumulative_counts=2),
    'scaled': dict(precision=dict(precision='fp16', init_scale=2.0**6)),
}


def run(size, keys, monkeypatch, sharded=True, **settings):
    """Three steps of each method on ``size`` ranks: gradients and states, by rank."""
    ranks = Ranks(size)
    monkeypatch.setattr(reduction, 'dist', ranks)
    if not sharded:
        monkeypatch.setattr(RowCombiner, 'takes_shards', False)
    models = [{key: make_model() for key in keys} for _ in range(size)]

    def job(rank):
        found = {}
        for key, model in models[rank].items():
            wrapper = build(key, model, tasks=TASKS, lr=1e-2, **settings)
            wrapper.saves_are_announced = True
            seen = record_gradients(wrapper)
            for number in range(3 * settings.get('accumulative_counts', 1)):
                model.train_step(toy_batch(rank + 10 * number, **BATCHES[rank]), wrapper)
            wrapper.gather_state()
            state = wrapper.state_dict()['mtl']['strategy'] if rank == 0 else None
            found[key] = [torch.cat([g.reshape(-1) for g in step]) for step in seen], state
        return found

    found = ranks.run(job)
    monkeypatch.undo()
    return found, ranks


def gramian_only(key):
    return build(key, make_model()).aggregator.gramian_only


def share(vector, other):
    return float((vector - other).norm() / other.norm())


@pytest.mark.parametrize('size', [2, 3, 4])
def test_every_method_takes_the_step_of_rows_held_in_full(size, monkeypatch):
    # Of the methods that need products only, all take the same way.
    keys = KEYS if size == 3 else [key for key in KEYS if key == 'cagrad' or not gramian_only(key)]
    found, _ = run(size, keys, monkeypatch)
    expected, _ = run(size, keys, monkeypatch, sharded=False)
    for key in keys:
        (steps, state), (wanted, whole) = found[0][key], expected[0][key]
        assert all(torch.equal(steps[-1], found[rank][key][0][-1]) for rank in range(size)), key
        assert share(steps[0], wanted[0]) <= 1e-5, key
        assert share(steps[2], wanted[2]) <= 1e-3, key  # from weights and states that differ by rounding
        assert state.keys() == whole.keys()
        here, there = state['aggregator'], whole['aggregator']
        assert here.keys() == there.keys()
        for name, value in here.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, there[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('key', ['f_mtl', 'samo'])
def test_rows_at_moved_weights_are_spread_as_well(key, monkeypatch):
    found, ranks = run(3, [key], monkeypatch)
    expected, _ = run(3, [key], monkeypatch, sharded=False)
    (steps, state), (wanted, whole) = found[0][key], expected[0][key]
    assert all(torch.equal(steps[-1], found[rank][key][0][-1]) for rank in range(3))
    assert share(steps[0], wanted[0]) <= 1e-5
    assert share(steps[2], wanted[2]) <= 1e-3  # from weights that differ by rounding
    assert state.keys() == whole.keys()
    # Three steps; per row once at the weights and once at the moved ones (F-MTL), and as often whole for a direction.
    parts = 2 if key == 'f_mtl' else 1
    step = 4 * 210 * 2 / 3
    assert ranks.sent['reduce_scatter'] == 3 * parts * len(TASKS) * step
    assert ranks.sent['all_gather'] == 3 * (parts + (len(TASKS) if key == 'f_mtl' else 0)) * step


@pytest.mark.parametrize('name', [name for name in SETTINGS if name != 'plain'])
def test_so_it_is_whatever_is_set(name, monkeypatch):
    keys = ('cagrad', 'db_mtl', 'graddrop')
    found, _ = run(3, keys, monkeypatch, **SETTINGS[name])
    expected, _ = run(3, keys, monkeypatch, sharded=False, **SETTINGS[name])
    for key in keys:
        assert share(found[0][key][0][0], expected[0][key][0][0]) <= (0.05 if name == '16 bits' else 1e-5), key


class Apart(ToyModel):
    """Of the shared parameters ``b`` uses the last bias alone, and ``c`` none; some give a gradient that is NaN."""

    bad = ()

    def forward(self, inputs, targets, mode='tensor'):
        out = super().forward(inputs, targets, mode)
        kept = self.backbone(inputs).detach()
        bias = self.backbone[4].bias
        for task, features in (('b', kept + bias[:, None, None]), ('c', kept)):
            if f'{task}.loss' in out:
                out[f'{task}.loss'] = self.heads[task](features).square().mean()
        for task in self.bad:
            out[f'{task}.loss'] = out[f'{task}.loss'] + (0 * bias[-1]).sqrt()
        return out


@pytest.mark.parametrize('bad', ['', 'a', 'b'])
@pytest.mark.parametrize('key', ['nash_mtl', 'cagrad', 'graddrop'])
def test_what_one_rank_alone_can_see_of_a_row_counts_for_all(key, bad, monkeypatch):
    """That it is not zero, and that it is not finite: here in the last column, and on the last rank."""
    found = []
    for sharded in (True, False):
        ranks = Ranks(3)
        monkeypatch.setattr(reduction, 'dist', ranks)
        if not sharded:
            monkeypatch.setattr(RowCombiner, 'takes_shards', False)
        torch.manual_seed(0)
        models = [Apart() for _ in range(3)]
        for model in models:
            model.load_state_dict(models[0].state_dict())
        models[1].bad = tuple(bad)

        def job(rank, models=models):
            wrapper = build(key, models[rank], tasks=TASKS)
            for number in range(2):
                models[rank].train_step(toy_batch(rank + 10 * number), wrapper)
            return flat(models[rank]), wrapper.zero_rows, wrapper.guard.total

        ends = ranks.run(job)
        monkeypatch.undo()
        assert [end[1:] for end in ends] == [({'c': 2}, dict.fromkeys(bad, 2))] * 3
        assert all(torch.equal(ends[0][0], end[0]) for end in ends)
        found.append(ends[0][0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)
    assert torch.isfinite(found[0]).all()


def test_what_is_sent_and_held_is_as_little_as_promised(monkeypatch):
    """D numbers per task on their way to the shards, and D for the update; 1 / n of the rows is held, and two rows."""
    size, tasks, width = 4, len(TASKS), 210
    padded = -(-width // size) * size
    held = []
    zeros = row_shards.ShardedRows._buffer

    def watched(rows):
        buffer = zeros(rows)
        live = {id(each) for each in [*rows._free, buffer, *(sent[1] for sent in rows._sent)]}
        held.append((len(live), buffer.numel(), rows._padded.numel(), rows.held))
        return buffer

    monkeypatch.setattr(row_shards.ShardedRows, '_buffer', watched)
    _, ranks = run(size, ['mgda'], monkeypatch)
    wide = {name: sent for name, sent in ranks.sent.items() if name != 'all_reduce'}
    step = 4 * padded * (size - 1) / size
    assert wide == dict(reduce_scatter=3 * tasks * step, all_gather=3 * step)
    _, before = run(size, ['mgda'], monkeypatch, sharded=False)
    small = ranks.sent['all_reduce']
    assert before.sent['all_reduce'] - small >= 3 * 2 * tasks * 4 * width * (size - 1) / size - 3 * 8 * 2 * tasks * 20
    assert {count for count, *_ in held} == {1, 2}
    rows = tasks * padded // size
    assert {tuple(sizes) for _, *sizes in held} == {(padded, rows, 4 * (rows + 2 * padded))}


def test_a_memory_that_is_spread_is_saved_whole_or_not_at_all(monkeypatch):
    """What rank 0 saves goes on in a run with another number of ranks, and on one process."""
    ranks = Ranks(3)
    monkeypatch.setattr(reduction, 'dist', ranks)
    models = [make_model() for _ in range(3)]

    def job(rank):
        wrapper = build('moco', models[rank], tasks=TASKS)
        wrapper.saves_are_announced = True
        models[rank].train_step(toy_batch(rank), wrapper)
        with pytest.raises(RuntimeError, match='the state of MoCo is spread over the processes: call gather_state'):
            wrapper.state_dict()
        wrapper.gather_state()
        if rank > 0:  # nothing was brought there
            with pytest.raises(RuntimeError, match='spread over the processes'):
                wrapper.state_dict()
        return wrapper.state_dict() if rank == 0 else None

    saved = ranks.run(job)[0]
    assert saved['mtl']['strategy']['aggregator']['buffer'].shape == (3, 210)
    ends = []
    for size in (1, 2):
        world = Ranks(size)
        monkeypatch.setattr(reduction, 'dist', world)
        again = [make_model() for _ in range(size)]

        def go_on(rank, again=again):
            wrapper = build('moco', again[rank], tasks=TASKS)
            wrapper.saves_are_announced = True
            wrapper.load_state_dict(saved)
            seen = record_gradients(wrapper)
            again[rank].train_step(toy_batch(7), wrapper)
            wrapper.gather_state()
            return torch.cat([g.reshape(-1) for g in seen[0]]), wrapper.state_dict()['mtl'] if rank == 0 else None

        ends.append(world.run(go_on)[0])
    assert share(ends[1][0], ends[0][0]) <= 1e-5
    first, second = (end[1]['strategy']['aggregator'] for end in ends)
    torch.testing.assert_close(second['buffer'], first['buffer'], rtol=1e-5, atol=1e-7)
    assert differences(second.keys(), first.keys()) == []


def test_without_a_hook_that_announces_saves_no_memory_is_spread(monkeypatch):
    monkeypatch.setattr(reduction, 'dist', Ranks(2))
    takes = {key: build(key, make_model()).combiner.takes_shards for key in KEYS}
    assert {key for key in KEYS if not takes[key]} == {'db_mtl', 'excess_mtl', 'moco'}
    assert RNGStateHook.gathers_state


def test_a_memory_that_is_spread_moves_with_its_columns(monkeypatch):
    """Frozen, shared anew and back: as on one process, also where a rank has fewer columns than the others."""
    orders = [dict(a=2, b=3), dict(b=3), dict(b=3, c=4), dict(a=2, b=3, c=4)]

    def follow(rank):
        buffer, reducer = TaskBuffer('X'), Reducer()
        kept, seen = KeptColumns(buffer), []
        for number, columns in enumerate(orders):
            shard = Shard(sum(columns.values()), reducer) if reducer.world_size > 1 else None
            kept.fit(columns, shard)
            whole = torch.arange(2.0 * sum(columns.values())).view(2, -1) + 100 * number
            added = whole if shard is None else shard.cut(whole)
            buffer.rows_for(2, added).add_(added)
            kept.gather()
            if rank == 0:
                with kept.whole():
                    seen.append(buffer.data.clone())
        return seen

    expected = follow(0)
    ranks = Ranks(3)
    monkeypatch.setattr(reduction, 'dist', ranks)
    for found, wanted in zip(ranks.run(follow)[0], expected, strict=True):
        assert torch.equal(found, wanted)
