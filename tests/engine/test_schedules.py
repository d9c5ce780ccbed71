"""One strategy after the other, and single tasks before joint steps."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub

from mtl_plugins.engine.optim_wrappers import PhasesOptimWrapper, SwitchOptimWrapper
from mtl_plugins.engine.optim_wrappers.selective import group_strategy
from mtl_plugins.engine.optimizers import AdaTask
from mtl_plugins.errors import UserError
from mtl_plugins.methods.weighting import RLW
from mtl_plugins.registry import OPTIM_WRAPPERS
from tests.support.runs import differences

from .all_methods import QUICK, ROWS, build, read_fragment
from .toy import TASKS, flat, make_model, toy_batch

STGU = dict(type='mtl_plugins.SelectiveTaskGroupOptimWrapper', warmup_iters=1, regroup_interval=1, probe_interval=1)
GD = dict(type='mtl_plugins.MultiTaskOptimWrapper')
PCGRAD = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='PCGrad'))
MOCO = dict(type='mtl_plugins.GradientAggregationOptimWrapper', aggregator=dict(type='MoCo'))


def adam(model, **kwargs):
    return torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-2, **kwargs)


def switch(model, strategies=(STGU, MOCO, GD), at=(3, 6), **kwargs):
    return SwitchOptimWrapper(adam(model), strategies, at, **{'seed': 0, **kwargs})


def train(model, wrapper, numbers):
    for number in numbers:
        torch.manual_seed(number)
        model.train_step(toy_batch(number), wrapper)


def test_each_part_of_a_switched_run_is_the_strategy_by_itself():
    """Over one optimizer, whose moments go on; dropout and BatchNorm are drawn and kept as the strategy wants it."""
    ours, apart = make_model(dropout=0.3, batch_norm=True), make_model(dropout=0.3, batch_norm=True)
    train(ours, switch(ours), range(9))
    optimizer = adam(apart)
    for number, cfg in enumerate((STGU, MOCO, GD)):
        wrapper = build(cfg, apart, optimizer=None, seed=1 + number)
        wrapper.optimizer = optimizer
        train(apart, wrapper, range(3 * number, 3 * number + 3))
    assert torch.equal(flat(ours), flat(apart))
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), apart.buffers()))


APART = {
    'a clip of its own': (
        dict(type='mtl_plugins.AdaTaskOptimWrapper'),
        lambda p: AdaTask(p, base='Adagrad', lr=0.01),
        dict(max_norm=1e-3),
    ),
    'features': (dict(PCGRAD, aggregator=dict(type='MGDA'), level='features'), lambda p: torch.optim.SGD(p, 0.1), None),
    'zeros': (
        dict(type='mtl_plugins.ReleasedTaskGroupOptimWrapper', warmup_iters=1),
        lambda p: torch.optim.Adam(p, 0.01),
        None,
    ),
}


@pytest.mark.parametrize('kind', APART)
def test_so_it_is_for_strategies_that_step_and_look_in_their_own_way(kind):
    strategy, make, clip = APART[kind]
    found = []
    for cfg in (
        dict(strategy, seed=1),
        dict(type='mtl_plugins.SwitchOptimWrapper', strategies=[strategy, GD], at=9, seed=0),
    ):
        model = make_model()
        train(model, OPTIM_WRAPPERS.build(dict(cfg, optimizer=make(model.parameters()), clip_grad=clip)), range(3))
        found.append(flat(model))
    assert torch.equal(*found)


@pytest.mark.parametrize('stop', [2, 5, 7])
def test_a_switched_run_resumes_bit_by_bit(stop):
    whole = make_model(dropout=0.3)
    wrapper = switch(whole)
    train(whole, wrapper, range(stop))
    saved = copy.deepcopy(dict(model=whole.state_dict(), optimizer=wrapper.state_dict()))
    train(whole, wrapper, range(stop, 9))
    other = make_model(seed=1, dropout=0.3)
    other.load_state_dict(saved['model'])
    resumed = switch(other, seed=5)
    resumed.load_state_dict(saved['optimizer'])
    train(other, resumed, range(stop, 9))
    assert torch.equal(flat(whole), flat(other))


def test_switching_counts_batches_and_begins_with_a_step():
    model = make_model()
    wrapper = switch(model, (STGU, GD), 3, accumulative_counts=2)
    seen = []
    for number in range(8):
        train(model, wrapper, [number])
        seen.append(wrapper._last)
    assert seen == [0, 0, 0, 0, 1, 1, 1, 1]  # batch 3 belongs to a step that began before


def test_a_strategy_that_leaves_zeros_behind_moves_nothing_after_the_switch():
    """The released program steps idle heads by momentum; afterwards an absent task's head stands still."""
    model = make_model()
    wrapper = switch(model, (dict(type='mtl_plugins.ReleasedTaskGroupOptimWrapper', warmup_iters=9), GD), 2)
    train(model, wrapper, range(2))
    before = flat(model.heads['b'])
    model.train_step(toy_batch(2, tasks=('a', 'c')), wrapper)
    assert torch.equal(before, flat(model.heads['b']))


def test_after_a_switch_nothing_is_kept_for_the_rows_of_before():
    model = make_model()
    wrapper = switch(model, (PCGRAD, MOCO, GD), (2, 4))
    for number in range(5):
        train(model, wrapper, [number])
        kept = [strategy._memory._bytes is not None for strategy in wrapper.strategies[:2]]
        assert kept == [number < 2, 2 <= number < 4]


@pytest.mark.parametrize('joint', [None, PCGRAD, STGU])
def test_the_share_of_single_steps_falls_to_nothing(joint):
    model = make_model()
    wrapper = PhasesOptimWrapper(adam(model), joint, total=200, seed=0)
    seen = [wrapper._choose(iteration) for _ in range(5) for iteration in range(200)]
    parts = 1 - torch.tensor(seen).view(5, 4, 50).float().mean((0, 2))
    assert parts.tolist() == pytest.approx([0.875, 0.625, 0.375, 0.125], abs=0.07)
    assert seen[0] == 0
    train(model, wrapper, range(3))


def test_phases_in_units_of_an_epoch_resume():
    def run(numbers, state=None, model=None):
        wrapper = PhasesOptimWrapper(adam(model), dict(GD, weighting=dict(type='RLW')), every=4, total=24, seed=2)
        if state is not None:
            wrapper.load_state_dict(state)
        chosen = []
        for number in numbers:
            train(model, wrapper, [number])
            chosen.append(wrapper._last)
        return wrapper, chosen

    whole, other = make_model(), make_model(seed=1)
    first, chosen = run(range(10), model=whole)
    state = copy.deepcopy(first.state_dict())
    other.load_state_dict(whole.state_dict())
    for number in range(10, 24):
        train(whole, first, [number])
        chosen.append(first._last)
    _, again = run(range(10, 24), state, other)
    assert again == chosen[10:]
    assert torch.equal(flat(whole), flat(other))
    assert all(len(set(chosen[start : start + 4])) == 1 for start in range(0, 24, 4))
    assert set(chosen) == {0, 1}
    assert isinstance(first.weighting, RLW)


def test_what_concerns_the_whole_run_is_one_thing_for_all_strategies():
    model = make_model()
    wrapper = switch(model, (GD, PCGRAD), 1)
    train(model, wrapper, range(2))
    for strategy in wrapper.strategies:
        for name in ('precision', 'guard', 'silent', 'policy', 'reducer', 'zero_rows', 'optimizer', 'task_names'):
            assert getattr(strategy, name) is getattr(wrapper, name), name
    wrapper.initialize_count_status(model, 0, 2)
    assert [strategy.seed for strategy in switch(model, (GD, PCGRAD), 1, seed=1000).strategies] == [1001, 1002]
    assert [strategy.seed for strategy in switch(model, (GD, PCGRAD), 1, seed=-1).strategies] == [0, 1]


def test_the_log_does_not_go_on_with_numbers_of_a_strategy_that_is_over():
    model = make_model()
    hub = MessageHub.get_current_instance()
    hub.log_scalars.clear()
    hub.update_scalar('train/loss', 1.0)
    wrapper = switch(model, (dict(GD, weighting=dict(type='RLW')), STGU, GD), (2, 4))
    seen, which = [], []
    for number in range(6):
        train(model, wrapper, [number])
        names = hub.log_scalars
        seen.append(('train/a.weight' in names, 'train/num_groups' in names))
        which.append(names['train/strategy'].current())
    assert seen == [(True, False)] * 2 + [(False, True)] * 2 + [(False, False)] * 2
    assert which == [0, 0, 1, 1, 2, 2]
    assert 'train/loss' in hub.log_scalars


@pytest.mark.parametrize('key', {row.wrapper: key for key, row in ROWS.items() if key != 'phases'}.values())
def test_phases_go_around_every_strategy_and_resume(key):
    """One method of each; AdaTask with its own optimizer, which single tasks step, too."""
    batches = [toy_batch(0), toy_batch(1, tasks=('a', 'c')), toy_batch(2, tasks=('b',)), toy_batch(3)]
    own = read_fragment(key).get('optimizer')
    joint = {name: value for name, value in {**read_fragment(key), **QUICK.get(key, {})}.items() if name != 'optimizer'}

    def run(model, numbers, state=None):
        optimizer = AdaTask(model.parameters(), base=own['base']) if own else adam(model)
        wrapper = PhasesOptimWrapper(optimizer, joint, total=4, seed=0)
        wrapper.weighting.set_epoch_length(2)
        if state:
            wrapper.load_state_dict(state)
        for number in numbers:
            torch.manual_seed(number)
            model.train_step(batches[number], wrapper)
        return copy.deepcopy(wrapper.state_dict())

    whole, first = make_model(dropout=0.3), make_model(dropout=0.3)
    final, halfway = run(whole, range(4)), run(first, range(2))
    assert differences(final, run(first, range(2, 4), halfway)) == []
    assert torch.equal(flat(whole), flat(first))
    assert torch.isfinite(flat(whole)).all()


def test_what_hooks_look_for_is_found_behind_a_schedule():
    model = make_model()
    assert group_strategy(switch(model)) is not None
    assert group_strategy(switch(model, (GD, PCGRAD), 3)) is None
    assert group_strategy(PhasesOptimWrapper(adam(model), STGU, total=3)).grouper.follows_affinity


def test_what_cannot_be_is_refused():
    model = make_model()
    nested, wrong = dict(type='mtl_plugins.SwitchOptimWrapper', strategies=[GD], at=[]), dict(GD, precision='bf16')
    cases = [
        (
            lambda: switch(model, (STGU, GD), (3, 6)),
            'at must name an iteration for each strategy but the .* 1, but',
        ),
        (lambda: switch(model, (STGU, GD), 0), 'at must be iterations from 1 on that rise, but got 0'),
        (lambda: switch(model, (), ()), 'strategies must hold at least one config of an optimizer wrapper'),
        (lambda: switch(model, at=(6, 3)), 'at must be iterations from 1 on that rise'),
        (
            lambda: switch(model, (STGU, wrong), 3),
            r'strategy 2: precision is set for all .* as optim_wrapper.prec',
        ),
        (lambda: switch(model, (STGU, dict(type='GD')), 3), "strategy 2: there is no optim_wrapper 'GD'"),
        (lambda: switch(model, (STGU, nested), 3), 'strategy 2 must be .* that is no schedule itself'),
        (lambda: switch(model, (STGU, dict(GD, passses=2)), 3), 'strategy 2=dict.*passses'),
        (lambda: PhasesOptimWrapper(adam(model), every=0), 'every must be an integer >= 1, but got 0'),
        (lambda: train(model, PhasesOptimWrapper(adam(model)), [0]), 'set optim_wrapper.total to the number of iterat'),
        (lambda: switch(model).initialize_count_status(model, 0, 6), 'training ends after 6 iterations, so that strat'),
    ]
    for case, message in cases:
        with pytest.raises(UserError, match=message):
            case()
    gradnorm = dict(GD, weighting=dict(type='GradNorm'))
    with pytest.raises(ValueError, match='use accumulative_counts=1'):
        switch(model, (STGU, gradnorm), 3, accumulative_counts=2)


def test_a_checkpoint_of_other_strategies_is_refused():
    model = make_model()
    wrapper = switch(model, (STGU, GD), 3)
    train(model, wrapper, range(2))
    assert wrapper.method_name == 'switch(stgu, gd)'
    state = wrapper.state_dict()
    with pytest.raises(ValueError, match=r"method 'switch\(stgu, gd\)', this run uses 'switch\(gd, pcgrad\)'"):
        switch(model, (GD, PCGRAD), 3).load_state_dict(copy.deepcopy(state))
    other = dict(STGU, grouper=dict(type='PositiveAffinity'))
    with pytest.raises(ValueError, match=r'strategy 1.grouper.type: AffinityPropagation in the checkpoint'):
        switch(model, (other, GD), 3).load_state_dict(copy.deepcopy(state))
    assert PhasesOptimWrapper(adam(model), STGU).method_name == 'phases(stgu)'
    assert list(TASKS) == list(wrapper.strategies[0].task_names)
