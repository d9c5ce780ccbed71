"""What all strategies with a gradient per task share, seen through the plain sum: it is ordinary training."""

import pytest
import torch
from torch import nn

from mtl_plugins.engine.optim_wrappers import GradientAggregationOptimWrapper
from mtl_plugins.engine.step import reduction
from mtl_plugins.methods.aggregation import Aggregator
from mtl_plugins.registry import AGGREGATORS
from tests.support.thread_ranks import Ranks

from .all_methods import QUICK, ROWS, build, read_fragment
from .changing_graphs import LR, SCENARIOS, STEPS, make, micro, prepare, snapshot
from .toy import TASKS, ToyModel, flat, make_model, toy_batch

SUM = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='Sum'))
WAYS = {
    'rows': {},
    'rows of 16 bits': dict(row_dtype='bf16'),
    'every third step': dict(interval=3),
    'features': dict(level='features', features='features'),
    'features, scaled': dict(level='features', features='features', precision=dict(precision='fp16', init_scale=2.0)),
    'no rows': dict(memory='gramian'),
    'no rows, every third step': dict(memory='gramian', interval=3),
}
WEIGHTED = [key for key, row in ROWS.items() if row.kind == 'loss weighting' and key not in ('gradnorm', 'emtl', 'gd')]


@pytest.mark.parametrize('key', WEIGHTED)
def test_a_loss_weighting_before_the_sum_is_the_weighted_sum(key):
    results = []
    weighting = QUICK.get(key, read_fragment(key))['weighting']
    for fragment in (key, dict(SUM, weighting=weighting)):
        model = make_model()
        wrapper = build(fragment, model)
        for number in range(3):
            model.train_step(toy_batch(number, tasks=TASKS if number != 1 else TASKS[:2]), wrapper)
        results.append(flat(model))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


MORE = ('own late', 'own late, a head shared', 'shared ones rest', 'no label')
"""Scenarios of sums: ``c`` begins to use a parameter of its own, while ``a`` and ``b`` share features only, or also a
layer of heads; nothing shared is trainable for two batches; a rank, or a batch, has no label."""


def changing(scenario):
    """A model of the scenario."""
    model = make('unfreeze' if scenario in MORE else scenario)
    if 'own late' in scenario:
        model.late, model.uses_late = nn.Parameter(torch.ones(1)), False
        model.heads['c']['last'].register_forward_hook(
            lambda module, args, out: out * model.late if model.uses_late else out
        )
    return model


def steps(model, wrapper, scenario, parts, parts_of_all):
    wrapper.precision.autocast = lambda device: torch.autocast(device, enabled=False)  # the loss scale alone
    for number in range(STEPS):
        if scenario not in MORE:
            prepare(model, scenario, number)
        model.uses_late = number >= 2
        if scenario == 'shared ones rest':
            for part in (model.stem, model.block):
                part.requires_grad_(number not in (1, 2))
        for part in parts:
            batch = micro('unfreeze' if scenario in MORE else scenario, number, part, parts_of_all)
            if scenario == 'own late, a head shared':
                batch['second'] = True
            if scenario == 'no label' and number and part < max(parts_of_all - 1, number == 1):
                batch['targets'] = {}
            model.train_step(batch, wrapper)


def assert_near(found, expected, start, share):
    scale = max(float((expected[name] - start[name]).norm()) for name in start)
    for name in start:
        assert (found[name] - expected[name]).norm() <= share * scale, name
        assert torch.equal(expected[name], start[name]) == torch.equal(found[name], start[name]), name


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('scenario', [*SCENARIOS, *MORE])
def test_the_sum_is_ordinary_training_whatever_comes_late(scenario, way):
    ends = []
    for fragment in ('gd', dict(SUM, **WAYS[way])):
        model = changing(scenario)
        start = snapshot(model)
        steps(model, build(fragment, model, lr=LR), scenario, [0], 1)
        ends.append(snapshot(model))
    assert_near(ends[1], ends[0], start, 0.02 if way == 'rows of 16 bits' else 1e-4)


@pytest.mark.parametrize('way', ['rows', 'features', 'every third step', 'no rows'])
@pytest.mark.parametrize('scenario', ['unfreeze', 'second user', 'constant loss', *MORE])
def test_so_it_is_on_two_ranks_that_see_different_things(scenario, way, monkeypatch):
    """Against one process with two micro-batches; only the second rank's batch shows what is new."""
    single = changing(scenario)
    start = snapshot(single)
    steps(single, build('gd', single, lr=LR, accumulative_counts=2), scenario, [0, 1], 2)
    expected = snapshot(single)
    ranks = Ranks(2)
    monkeypatch.setattr(reduction, 'dist', ranks)
    models = [changing(scenario) for _ in range(2)]

    def job(rank):
        steps(models[rank], build(dict(SUM, **WAYS[way]), models[rank], lr=LR), scenario, [rank], 2)
        return snapshot(models[rank])

    first, second = ranks.run(job)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert_near(first, expected, start, 1e-4)


@pytest.mark.parametrize('key', ['f_mtl', 'samo'])
@pytest.mark.parametrize('what', ['nothing finite', 'a second user', 'no heads'])
def test_what_is_otherwise_at_moved_weights_than_before(key, what):
    """Where no loss is finite nothing moves; what a task reaches there alone is left to the next batch."""
    model = make('second user')
    settings = dict(adaptive=True) if key == 'f_mtl' else {}
    wrapper, moves = build(key, model, lr=LR, **settings), []
    rows, call = wrapper.perturbed_rows, model.forward

    def perturbed(*args):
        moves.append(True)
        found = rows(*args)
        moves.clear()
        return found

    def forward(*args, **kwargs):
        out = call(*args, **{**kwargs, 'second': bool(moves) and what == 'a second user'})
        return {
            k: v * float('nan') if moves and what == 'nothing finite' and 'loss' in k else v for k, v in out.items()
        }

    wrapper.perturbed_rows, model.forward = perturbed, forward
    model.heads.requires_grad_(what != 'no heads')
    before = flat(model)
    for number in range(2):
        model.train_step(micro('unfreeze', number), wrapper)
    assert torch.equal(flat(model), before) == (what == 'nothing finite')
    assert torch.isfinite(flat(model)).all()
    assert set(wrapper.guard.total.values()) == ({2} if what == 'nothing finite' else set())


@pytest.mark.parametrize('place', ['in the model', 'beside the model', 'where nothing else is trainable'])
@pytest.mark.parametrize('fragment', [*ROWS, *WAYS])
def test_what_the_optimizer_does_not_have_is_left_alone(fragment, place):
    """A weight that losses depend on may be another optimizer's."""
    all_frozen = place == 'where nothing else is trainable'
    ends = []
    for trainable in (False, True):
        model = make('freeze')
        start = flat(model)
        wrapper = build(dict(SUM, **WAYS[fragment]) if fragment in WAYS else fragment, model, lr=LR)
        parts = (model.stem, model.block, model.heads)
        beside = nn.Parameter(torch.full((1,), 1.5), requires_grad=trainable)
        if place != 'beside the model':
            model.beside = nn.ParameterList([beside])
        model.stem.register_forward_hook(lambda module, args, out, beside=beside: out * beside)
        for number in range(3):
            for part in parts:
                part.requires_grad_(not all_frozen)
            model.train_step(micro('freeze', number), wrapper)
        assert beside == 1.5
        ends.append(torch.cat([flat(part) for part in parts]))
        assert torch.equal(ends[-1], start) == all_frozen
    assert torch.equal(*ends)


def make_sum(model, **kwargs):
    return GradientAggregationOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), dict(type='Sum'), **kwargs)


AGGREGATING = [key for key, row in ROWS.items() if row.kind == 'gradient aggregation']


@pytest.mark.parametrize('key', AGGREGATING)
def test_settings_that_a_method_has_no_meaning_for_are_refused(key):
    aggregator = read_fragment(key)['aggregator']
    kind = build(dict(SUM, aggregator=aggregator), make_model()).aggregator
    allowed = {
        'interval': (2, kind.gramian_only),
        'heads': ('weighted', kind.gives_weights),
        'level': ('features', kind.gramian_only and kind.features_level),
        'memory': ('gramian', kind.gramian_only),
        'rescale': ('mean', False),
        'bn_stats': ('never', False),
    }
    for name, (value, is_allowed) in allowed.items():
        fragment = dict(SUM, aggregator=aggregator, **{name: value})
        if is_allowed:
            assert getattr(build(fragment, make_model()), name, value) == value
        else:
            with pytest.raises(ValueError, match=rf'{name}( must|={value!r})'):
                build(fragment, make_model())


@pytest.mark.parametrize('key', ['f_mtl', 'samo'])
@pytest.mark.parametrize('options', [dict(heads='weighted'), dict(level='features'), dict(interval=2), dict(rho=0.0)])
def test_so_it_is_for_sharpness_aware_methods(key, options):
    with pytest.raises(ValueError, match=r'sharpness-aware methods|rho must be a number > 0'):
        build(key, make_model(), **options)


@pytest.mark.parametrize('value', [float('inf'), float('nan')])
def test_a_task_whose_own_parameters_alone_have_a_bad_gradient_is_left_out(value):
    model, other = make_model(), make_model()
    wrapper = make_sum(model)
    model.heads['b'][0].bias.register_hook(lambda gradient: gradient * value)
    model.train_step(toy_batch(0), wrapper)
    other.train_step(toy_batch(0, tasks=('a', 'c')), make_sum(other))
    assert wrapper.guard.total == {'b': 1}
    torch.testing.assert_close(flat(model), flat(other))


@pytest.mark.parametrize(('scale', 'zero'), [(1e-35, []), (0.0, ['b'])])
def test_only_what_is_exactly_zero_is_a_zero_row(scale, zero):
    """Squares of tiny numbers vanish."""
    model = make_model()
    wrapper = make_sum(model)
    model.heads['b'][0].register_full_backward_hook(lambda m, given, out: tuple(g * scale for g in given))
    model.train_step(toy_batch(0), wrapper)
    assert list(wrapper.zero_rows) == zero
    resumed = make_sum(make_model(), tasks=TASKS)
    resumed.load_state_dict(wrapper.state_dict())
    assert resumed.zero_rows == wrapper.zero_rows


@pytest.mark.parametrize('level', ['parameters', 'features'])
@pytest.mark.parametrize('key', ['mgda', 'Sum'])
def test_a_solution_without_a_tasks_gradient_says_nothing_about_the_next_batch(key, level):
    """A dead head at the first solution: from the second batch on all is solved again, with ``interval`` as before."""
    solved = []
    aggregator = dict(type='Sum') if key == 'Sum' else read_fragment(key)['aggregator']
    model = make_model()
    wrapper = build(dict(SUM, aggregator=aggregator, interval=4, level=level, features='backbone'), model)
    name = '_solve' if level == 'parameters' else '_solve_at_features'
    solve = getattr(wrapper, name)
    setattr(wrapper, name, lambda *args: (solved.append(wrapper.num_steps), solve(*args))[1])
    handle = model.heads['b'][0].register_full_backward_hook(lambda m, given, out: tuple(g * 0 for g in given))
    for number in range(6):
        model.train_step(toy_batch(number), wrapper)
        handle.remove()
    assert solved == [0, 1, 4]


class Silent(ToyModel):
    """The loss of ``b`` and its gradient are zero."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        return {**out, 'b.loss': out['b.loss'] * 0}


def test_a_silent_task_of_one_rank_is_known_to_the_other(monkeypatch):
    ranks = Ranks(2)
    monkeypatch.setattr(reduction, 'dist', ranks)
    models = [make_model(), Silent().train()]

    def job(rank):
        wrapper = build('gd', models[rank])
        seen = []
        for number in range(2):
            models[rank].train_step(toy_batch(10 * number + rank), wrapper)
            seen.append([task for task in TASKS if not wrapper.silent.wants(task)])
        return seen

    assert ranks.run(job) == [[[], ['b']], [['b'], ['b']]]


def test_what_the_rows_cost_is_said_once(monkeypatch):
    lines = []
    monkeypatch.setattr('mtl_plugins.engine.optim_wrappers.rows.print_log', lambda text, **kwargs: lines.append(text))
    model = make_model()
    wrapper = make_sum(model)
    for number in range(2):
        model.train_step(toy_batch(number), wrapper)
    shared = sum(p.numel() for p in model.backbone.parameters())
    own = sum(p.numel() for p in model.heads.parameters())
    (line,) = lines
    assert f'{shared:,} shared and {own:,} task-specific parameters; {3 * shared * 4 / 2**20:.1f} MiB' in line


@AGGREGATORS.register_module()
class KeepsItsRows(Aggregator):
    """What somebody's own aggregator may do: look at the rows of earlier batches."""

    def __init__(self, tasks=None):
        super().__init__(tasks)
        self.seen = []

    def _aggregate(self, G, *args):
        self.seen.append((G[:, 1:], G[:, 1:].clone()))
        return G.sum(0)


def test_rows_that_somebody_keeps_stay_what_they_were():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = GradientAggregationOptimWrapper(optimizer, dict(type='KeepsItsRows'))
    for number in range(4):
        model.train_step(toy_batch(number), wrapper)
    for kept, copy in wrapper.combiner.aggregator.seen:
        assert torch.equal(kept, copy)
    assert not torch.equal(copy, wrapper.combiner.aggregator.seen[0][1])
