"""Every method while parameters freeze, are skipped or get new users: the step is the one from scratch."""

import copy

import pytest
import torch

from mtl_plugins.engine.step import reduction
from mtl_plugins.errors import UserError
from mtl_plugins.registry import AGGREGATORS
from tests.support.runs import differences
from tests.support.thread_ranks import Ranks
from tests.support.two_ranks import launch

from . import ddp_changing_graphs
from .all_methods import ROWS, build, read_fragment
from .changing_graphs import LR, SCENARIOS, STEPS, Changing, check, make, micro, prepare, run, snapshot


def shared_out(keys, scenarios=tuple(SCENARIOS), share=1):
    """All pairs; every method with ``share`` scenarios, and every scenario with many methods, are for every day."""
    return [
        pytest.param(key, scenario, marks=[] if (number - place) % len(scenarios) < share else pytest.mark.slow)
        for number, key in enumerate(keys)
        for place, scenario in enumerate(scenarios)
    ]


@pytest.mark.parametrize(('key', 'scenario'), shared_out(ROWS, share=3))
def test_the_step_is_the_one_from_scratch(key, scenario):
    found = run(key, scenario, batches=lambda number: [micro(scenario, number)])
    check(key, scenario, found)


@pytest.mark.parametrize(
    ('key', 'settings'),
    [
        ('f_mtl', dict(rho=0.3, adaptive=True)),
        ('samo', dict(rho=0.3, mu=0.1, beta=0.8)),
        ('samo', dict(rho=0.3, mu=0.1, beta=0.8, layerwise=False)),
    ],
)
def test_so_it_is_with_settings_of_sharpness(key, settings):
    """Where the weights move far enough for all of it to be seen; two of the tasks have weights of their own."""
    settings['weighting'] = dict(type='EqualWeighting', weights=dict(a=2.0, b=0.5))
    found = run(key, 'second user', batches=lambda number: [micro('second user', number)], **settings)
    check(key, 'second user', found, **settings)


ACCUMULATING = [key for key, row in ROWS.items() if row.accumulates_exactly]


@pytest.mark.parametrize(('key', 'scenario'), shared_out(ACCUMULATING, ['second user', 'constant loss']))
def test_so_it_is_over_two_micro_batches(key, scenario):
    batches = lambda number: [micro(scenario, number, part, 2) for part in range(2)]  # noqa: E731
    check(key, scenario, run(key, scenario, batches=batches, accumulative_counts=2), parts=2)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory, request):
    """What the two ranks found for the cases that were asked for."""
    asked = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    params = [item.callspec.params for item in asked if 'ranks' in item.fixturenames]
    cases = [(each['key'], each['scenario']) for each in params]
    return launch(ddp_changing_graphs.job, tmp_path_factory.mktemp('changing'), cases)


@pytest.mark.parametrize(('key', 'scenario'), shared_out(ROWS))
def test_so_it_is_on_two_ranks(ranks, key, scenario):
    first, second = (rank[key, scenario] for rank in ranks)
    for here, there in zip(first['weights'], second['weights']):
        assert all((here[name] == there[name]).all() for name in here)
    assert first['groups'] == second['groups']
    check(key, scenario, first, parts=2)


AT_FEATURES = [
    key
    for key, row in ROWS.items()
    if row.kind == 'gradient aggregation'
    and (kind := AGGREGATORS.get(read_fragment(key)['aggregator']['type'])).features_level
    and kind.gramian_only
]


@pytest.mark.parametrize(('key', 'scenario'), shared_out(AT_FEATURES))
def test_so_it_is_at_the_features(key, scenario):
    """A second user's parameter is a head's, so that it acts beside the features."""
    options = dict(level='features', features='features')
    found = run(key, scenario, batches=lambda number: [micro(scenario, number)], **options)
    check(key, scenario, found, at_features=True)


@pytest.mark.parametrize('scenario', SCENARIOS)
@pytest.mark.parametrize('level', ['parameters', 'features'])
def test_nothing_stands_still_between_two_solutions(scenario, level):
    options = dict(interval=3, level=level, features='features')
    found = run('mgda', scenario, batches=lambda number: [micro(scenario, number)], **options)
    before, after = found['weights'][-2:]
    still = {name for name in before if torch.equal(before[name], after[name])}
    unused = {'second user': 'heads.b.first', 'one task': ('heads.b', 'heads.c')}.get(scenario, '-')
    assert {name for name in still if not name.startswith(unused)} == set()


def train(model, wrapper, numbers, scenario='freeze'):
    for number in numbers:
        prepare(model, scenario, number)
        torch.manual_seed(number)
        model.train_step(micro(scenario, number), wrapper)


@pytest.mark.parametrize('key', ROWS)
def test_a_run_resumes_exactly_while_something_is_frozen(key):
    """What belongs to the frozen parameters comes back with them."""
    whole = make('freeze')
    wrapper = build(key, whole, lr=LR)
    train(whole, wrapper, range(STEPS - 1))
    saved = copy.deepcopy(dict(model=whole.state_dict(), optimizer=wrapper.state_dict()))
    other = make('freeze')
    other.load_state_dict(saved['model'])
    prepare(other, 'freeze', STEPS - 2)
    resumed = build(key, other, lr=LR)
    resumed.load_state_dict(saved['optimizer'])
    for model, each in ((whole, wrapper), (other, resumed)):
        train(model, each, [STEPS - 2, STEPS - 1])
    assert differences(snapshot(whole), snapshot(other)) == []
    assert differences(wrapper.state_dict(), resumed.state_dict()) == []


@pytest.mark.parametrize('key', ROWS)
def test_states_without_names_of_columns_still_resume(key):
    """As the release before wrote them."""
    results = []
    for strip in (False, True):
        model = make('zero row')
        wrapper = build(key, model, lr=LR)
        train(model, wrapper, range(2), 'zero row')
        state = copy.deepcopy(wrapper.state_dict())
        if strip:
            del state['mtl']['zero_rows']
            for name in ('kept', 'kept_flat'):
                state['mtl']['strategy'].pop(name, None)
        resumed = build(key, model, lr=LR)
        resumed.load_state_dict(state)
        train(model, resumed, range(2, 4), 'zero row')
        results.append(snapshot(model))
    assert differences(*results) == []


@pytest.mark.parametrize('key', ['nash_mtl', 'excess_mtl', 'emtl', 'mgda'])
def test_heads_without_a_shared_parameter_train_as_under_gd(key):
    """With everything shared frozen, every method is ordinary training, and the log counts it."""
    moves = []
    for method in (key, 'gd'):
        model = make('zero row')
        for part in (model.stem, model.block):
            part.requires_grad_(False)
        wrapper = build(method, model, lr=LR)
        train(model, wrapper, range(3), 'zero row')
        moves.append(snapshot(model))
        assert wrapper.zero_rows == (dict.fromkeys('abc', 3) if method == key else {})
        if method == key:
            assert wrapper.message_hub.get_scalar('train/zero_rows/a').current() == 3
    for name, value in moves[0].items():
        torch.testing.assert_close(value, moves[1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('key', ROWS)
def test_a_head_gets_something_new_while_nothing_is_shared(key):
    model = make('zero row')
    layer = model.heads['c']['first']
    for part in (model.stem, model.block, layer):
        part.requires_grad_(False)
    wrapper = build(key, model, lr=LR)
    train(model, wrapper, range(2), 'zero row')
    before = layer.weight.clone()
    layer.requires_grad_(True)
    train(model, wrapper, range(2, 4), 'zero row')
    assert not torch.equal(before, layer.weight)


@pytest.mark.parametrize('key', ['mgda', 'nash_mtl'])
def test_between_two_solutions_a_layer_has_a_user_while_its_owner_is_absent(key):
    model = make('second user')
    wrapper = build(key, model, lr=LR, interval=2)
    train(model, wrapper, range(1), 'second user')
    before = model.heads['a']['first'].weight.clone()
    batch = micro('second user', 2)
    del batch['targets']['a']
    model.train_step(batch, wrapper)
    assert not torch.equal(before, model.heads['a']['first'].weight)


# Their updates follow from earlier gradients, too.
REMEMBERING = {'ada_task', 'db_mtl', 'moco'}


def ways(key):
    """Options under which a method makes its update in another way than from whole rows in every step."""
    if ROWS[key].kind != 'gradient aggregation':
        return [{}]
    kind = AGGREGATORS.get(read_fragment(key)['aggregator']['type'])
    found = [{}]
    if kind.gramian_only:
        found += [dict(memory='gramian'), dict(interval=2), dict(memory='gramian', interval=2)]
    if key in AT_FEATURES:
        found += [dict(level='features', features='features', interval=n) for n in (1, 2)]
    return found


def skip_a_block(key, options):
    """A batch that skips the block, after one that did not, under momentum and decay.

    Returns the block's weight before and after, and where that puts it which steps along a gradient of zeros.
    """
    model = make('freeze')
    wrapper = build(key, model, lr=LR, **options)
    (group,) = wrapper.optimizer.param_groups
    group.update(momentum=0.5, weight_decay=0.1)
    model.train_step(micro('freeze', 0), wrapper)
    weight = model.block.weight
    before, speed = weight.detach().clone(), wrapper.optimizer.state[weight].get('momentum_buffer', torch.zeros(()))
    expected = before - LR * (0.5 * speed + 0.1 * before)
    model.train_step({**micro('freeze', 1), 'skip': True}, wrapper)
    return before, weight.detach().clone(), expected


@pytest.mark.parametrize('key', [key for key in ROWS if key != 'stgu_released'])
def test_a_shared_parameter_that_no_task_reaches_gets_zeros(key):
    """From methods that compare gradients, however they make the update; others leave it alone, as gd does."""
    for options in ways(key):
        before, after, expected = skip_a_block(key, options)
        if ROWS[key].kind in ('loss weighting', 'task groups'):
            assert torch.equal(after, before)
            continue
        assert not torch.equal(after, before), options
        if key not in REMEMBERING:
            torch.testing.assert_close(after, expected, msg=str(options))


@pytest.mark.parametrize('key', ['mgda', 'graddrop'])
def test_so_it_does_on_two_ranks(monkeypatch, key):
    """Where rows are spread over them, and where gradients are summed in buckets."""
    for options in ways(key):
        ranks = Ranks(2)
        monkeypatch.setattr(reduction, 'dist', ranks)
        before, after, expected = ranks.run(lambda rank, options=options: skip_a_block(key, options))[1]
        assert not torch.equal(after, before), options
        torch.testing.assert_close(after, expected, msg=str(options))


class OftenCalled(Changing):
    """Each task has features of its own call; ``detached`` adds a call that no loss depends on."""

    calls = 'per task'

    def forward(self, inputs, targets, mode='tensor', **kwargs):
        out = {}
        for number, task in enumerate(targets):
            part = super().forward(inputs + number, {task: targets[task]}, mode, **kwargs)
            out.update(part)
        if self.calls == 'detached':
            self.features(self.stem(inputs).detach())
        return out


@pytest.mark.parametrize('calls', ['per task', 'detached'])
def test_all_calls_of_the_features_count(calls):
    torch.manual_seed(0)
    model = OftenCalled().train()
    model.calls = calls
    wrapper = build('mgda', model, lr=LR, level='features', features='features')
    before = snapshot(model)
    train(model, wrapper, [0], 'freeze')
    moved = before['stem.0.weight'] - model.stem[0].weight.detach()
    weights = wrapper.combiner.weights
    assert wrapper.zero_rows == {}
    assert all(weight > 0 for weight in weights.values())
    model.load_state_dict(before)
    loss = sum(weight * model(**micro('freeze', 0), mode='loss')[f'{task}.loss'] for task, weight in weights.items())
    (expected,) = torch.autograd.grad(loss, [model.stem[0].weight])
    torch.testing.assert_close(moved, LR * expected)


def test_features_that_are_called_with_their_own_output_are_refused():
    class Repeated(Changing):
        def forward(self, inputs, targets, **kwargs):
            self.features(torch.tanh(self.features(self.stem(inputs))))
            return super().forward(inputs, targets, **kwargs)

    model = Repeated().train()
    wrapper = build('mgda', model, lr=LR, level='features', features='features')
    with pytest.raises(UserError, match=r"features='features': the module is called with what came out of it"):
        train(model, wrapper, [0], 'freeze')
