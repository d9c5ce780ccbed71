"""What holds for every weighting."""

import io

import pytest
import torch

from mtl_plugins.methods import weighting as package

from .cases import ASYMMETRIC, CASES, EPOCH, ORDERED, Script, build, names_of, rows_of, run, same, step

EACH = pytest.mark.parametrize('case', CASES)


def test_every_registered_weighting_is_covered():
    covered = {kind.__name__ for kind, _ in CASES.values()}
    assert covered == set(package.__all__) - {'Weighting'}


@EACH
def test_shape_dtype_and_no_graph(case):
    for dtype in (torch.float32, torch.float64):
        script = Script(7, 4, dtype=dtype)
        script.before.requires_grad_()
        weights = run(build(case, 4), script)
        assert weights.shape == (7, 4)
        assert weights.dtype == dtype
        assert not weights.requires_grad
        assert bool(torch.isfinite(weights).all())
        assert bool((weights >= 0).all())
        assert bool((weights > 0).any(dim=1).all())


@EACH
def test_weights_that_do_not_look_at_losses_are_known_before_them(case):
    weighting = build(case, 4)
    run(weighting, Script(2 * EPOCH + 1, 4))
    weighting.begin_step(torch.Generator().manual_seed(0))
    if not weighting.looks_at_losses:
        present = torch.tensor([True, True, False, True])
        nothing, something = torch.zeros(4).double(), torch.tensor([3.0, 1e-3, 5.0, 1e6]).double()
        assert torch.equal(weighting.weights(nothing, present), weighting.weights(something, present))


def extreme_script(num_steps, num_tasks, generator, dtype):
    """Losses and norms from 1e-10 to 1e15, some exactly zero, some steps with all of them equal."""
    script = Script(num_steps, num_tasks, dtype=dtype)
    for field in ('before', 'after', 'norms'):
        values = 10 ** (25 * torch.rand(num_steps, num_tasks, generator=generator, dtype=torch.float64) - 10)
        equal = torch.rand(num_steps, generator=generator) < 0.1
        values[equal] = values[equal, :1].expand(-1, num_tasks)
        values[torch.rand(values.shape, generator=generator) < 0.1] = 0
        setattr(script, field, values.to(dtype))
    script.kpis = script.kpis.round()
    return script


def check_extreme(case, num_tasks, trials, num_steps):
    generator = torch.Generator().manual_seed(num_tasks)
    for trial in range(trials):
        weighting = build(case, num_tasks)
        dtype = [torch.float32, torch.float64][trial % 2]
        weights = run(weighting, extreme_script(num_steps, num_tasks, generator, dtype))
        assert bool(torch.isfinite(weights).all())
        assert bool((weights >= 0).all())
        for value in weighting.state_dict().values():
            assert not isinstance(value, torch.Tensor) or not bool(value.isinf().any())


@EACH
@pytest.mark.parametrize('num_tasks', [1, 2, 3, 5, 8, 11, 32])
def test_finite_for_extreme_losses(case, num_tasks):
    check_extreme(case, num_tasks, trials=4, num_steps=3 * EPOCH)


@pytest.mark.slow
@EACH
def test_finite_for_ten_thousand_extreme_losses(case):
    for num_tasks in range(1, 33):
        check_extreme(case, num_tasks, trials=2, num_steps=160)


@EACH
@pytest.mark.parametrize('steps', [500, pytest.param(2500, marks=pytest.mark.slow)])
def test_a_loss_that_is_zero_for_long_gives_finite_weights(case, steps):
    weighting = build(case, 2)
    script = Script(1, 2)
    for field in ('before', 'after', 'norms'):
        getattr(script, field)[:, 0] = 0.0
    for _ in range(steps):
        weights = step(weighting, script, 0)
    assert bool(torch.isfinite(weights.float()).all())


@pytest.mark.parametrize('case', [case for case in CASES if case not in ORDERED])
def test_the_order_of_the_tasks_does_not_matter(case):
    script = Script(4 * EPOCH + 2, 6)
    script.present = torch.rand(len(script), 6, generator=torch.Generator().manual_seed(5)) < 0.7
    order = [3, 0, 5, 1, 4, 2]
    listed = run(build(case, names_of(6)), script)
    other = run(build(case, [names_of(6)[row] for row in order]), script.columns(order))
    torch.testing.assert_close(other, listed[:, order], rtol=1e-9, atol=1e-12)


@EACH
@pytest.mark.parametrize('num_tasks', [1, 2, 5])
def test_stated_scale_with_equal_losses(case, num_tasks):
    weighting = build(case, num_tasks)
    script = Script(3 * EPOCH, num_tasks)
    for field in ('before', 'after', 'norms', 'kpis'):
        setattr(script, field, getattr(script, field)[:, :1].expand(-1, num_tasks).clone())
    assert weighting.scale in ('sum', 'mean', 'raw')
    for weights in run(weighting, script):
        if weighting.scale != 'raw':
            expected = num_tasks if weighting.scale == 'sum' else 1.0
            assert float(weights.sum()) == pytest.approx(expected, rel=1e-9)
        if case != 'rlw' and case not in ASYMMETRIC:
            torch.testing.assert_close(weights, weights[:1].expand(num_tasks), rtol=1e-9, atol=0)


@EACH
@pytest.mark.parametrize('kept', [[0, 2, 3], [4], [1, 3]])
def test_absent_tasks_are_out(case, kept):
    """Same weights and next state as the method on the remaining tasks; the others' state stays as it is."""
    script = Script(5 * EPOCH, 5)
    script.present = torch.rand(len(script), 5, generator=torch.Generator().manual_seed(1)) < 0.7
    for history in (1, 2, EPOCH + 1, 2 * EPOCH + 2, 4 * EPOCH + 3):
        weighting = build(case, 5)
        run(weighting, script, stop=history)
        absent = [row for row in range(5) if row not in kept]
        script.present[history] = torch.tensor([row in kept for row in range(5)])
        for field in ('before', 'after', 'norms'):
            getattr(script, field)[history, absent] = float('nan')
        weighting.begin_step(torch.Generator().manual_seed(history))

        state = weighting.state_dict()
        few = build(case, [names_of(5)[row] for row in kept])
        few.load_state_dict(rows_of(state, kept))
        part = script.columns(kept)
        for one, data in ((weighting, script), (few, part)):
            if one.needs_grad_norms:
                one.observe_grad_norms(data.norms[history], data.before[history], data.present[history])
        weights = weighting.weights(script.before[history], script.present[history])
        alone = few.weights(part.before[history], part.present[history])
        assert not bool(weights[absent].any())
        torch.testing.assert_close(weights[kept], alone, rtol=1e-12, atol=1e-15)

        for one, data in ((weighting, script), (few, part)):
            after = data.after[history] if one.needs_after_step else None
            one.after_step(data.before[history], after, data.present[history])
        later = weighting.state_dict()
        assert same(rows_of(later, absent), {**rows_of(state, absent), **whole_numbers(later)})
        for name, value in rows_of(later, kept).items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, few.state_dict()[name], rtol=1e-12, atol=1e-15, equal_nan=True)
            else:
                assert value == few.state_dict()[name]


def whole_numbers(state):
    """The entries that count steps, not tasks."""
    return {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}


@EACH
def test_no_task_at_all(case):
    weighting = build(case, 3)
    script = Script(5, 3)
    run(weighting, script, stop=4)
    script.present[4] = False
    weighting.begin_step(torch.Generator().manual_seed(0))
    state = weighting.state_dict()
    assert weighting.weights(script.before[4], script.present[4]).tolist() == [0, 0, 0]
    weighting.after_step(script.before[4], script.after[4] if weighting.needs_after_step else None, script.present[4])
    assert same(state, weighting.state_dict())


@EACH
def test_a_loss_that_is_not_finite_does_not_reach_the_state(case):
    weighting = build(case, 3)
    script = Script(5, 3)
    run(weighting, script, stop=3)
    state = weighting.state_dict()
    field = 'after' if weighting.needs_after_step else 'before'
    weighting.begin_step(torch.Generator().manual_seed(0))
    if weighting.needs_grad_norms:
        weighting.observe_grad_norms(script.norms[3], script.before[3], script.present[3])
    getattr(script, field)[3, 1] = float('inf')
    weighting.after_step(script.before[3], script.after[3] if weighting.needs_after_step else None, script.present[3])
    if case != 'rlw':
        assert same(
            rows_of(weighting.state_dict(), [1]), {**rows_of(state, [1]), **whole_numbers(weighting.state_dict())}
        )
    for value in weighting.state_dict().values():
        assert not isinstance(value, torch.Tensor) or not bool(value.isinf().any())


@EACH
def test_deterministic_and_without_the_global_generator(case):
    script = Script(3 * EPOCH, 4)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = run(build(case, 4), script, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(run(build(case, 4), script, seed=3), first)
    if case == 'rlw':
        assert not torch.equal(run(build(case, 4), script, seed=4), first)


@EACH
@pytest.mark.parametrize('stop', [1, EPOCH + 2, 3 * EPOCH])
def test_state_round_trip_in_a_fresh_object(case, stop):
    script = Script(6 * EPOCH, 4)
    script.present = torch.rand(len(script), 4, generator=torch.Generator().manual_seed(2)) < 0.8
    weighting = build(case, 4)
    run(weighting, script, stop=stop)
    file = io.BytesIO()
    torch.save(weighting.state_dict(), file)
    expected = run(weighting, script, start=stop)
    file.seek(0)
    fresh = build(case, 4)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(run(fresh, script, start=stop), expected)
    assert same(fresh.state_dict(), weighting.state_dict())


@EACH
def test_the_state_is_a_copy(case):
    script = Script(3 * EPOCH, 3)
    weighting = build(case, 3)
    run(weighting, script, stop=4)
    state = weighting.state_dict()
    kept = rows_of(state, [0, 1, 2])
    run(weighting, script, start=4)
    assert same(state, kept)
    other = build(case, 3)
    other.load_state_dict(state)
    run(other, script, start=4)
    assert same(state, kept)


@EACH
def test_weights_change_nothing(case):
    script = Script(3 * EPOCH, 4)
    weighting = build(case, 4)
    run(weighting, script, stop=2 * EPOCH + 1)
    now = 2 * EPOCH + 1
    weighting.begin_step(torch.Generator().manual_seed(0))
    if weighting.needs_grad_norms:
        weighting.observe_grad_norms(script.norms[now], script.before[now], script.present[now])
    state, losses = weighting.state_dict(), script.before[now].clone()
    first = weighting.weights(losses, script.present[now])
    weighting.weights(10 * losses, script.present[now] & torch.tensor([True, False, True, True]))
    assert torch.equal(weighting.weights(losses, script.present[now]), first)
    assert torch.equal(losses, script.before[now])
    assert same(weighting.state_dict(), state)


@EACH
def test_binding_starts_anew(case):
    weighting = build(case, 4)
    first = weighting.state_dict()
    script = Script(2 * EPOCH, 4)
    run(weighting, script)
    weighting.bind(names_of(4))
    assert same(weighting.state_dict(), first)


@EACH
def test_the_state_of_another_method_or_number_of_tasks_is_refused(case):
    weighting = build(case, 3)
    with pytest.raises(ValueError, match=type(weighting).__name__):
        weighting.load_state_dict(dict(something=torch.zeros(3)))
    state = build(case, 4).state_dict()
    if state:
        with pytest.raises(ValueError, match=r'must have shape \(3'):
            weighting.load_state_dict(state)
        with pytest.raises(ValueError, match='must hold'):
            weighting.load_state_dict({name: value for name, value in state.items() if name != next(iter(state))})
        unbound = CASES[case][0](**CASES[case][1])
        with pytest.raises(RuntimeError, match=r'call bind\(tasks\) before load_state_dict'):
            unbound.load_state_dict(state)


@EACH
def test_the_representation_rebuilds_the_object(case):
    weighting = build(case, 2)
    again = eval(repr(weighting), vars(package))
    assert repr(again) == repr(weighting)
