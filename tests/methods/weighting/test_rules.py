"""What is particular to one weighting, checked against its definition written out."""

import math

import pytest
import torch

from mtl_plugins.methods.weighting import (
    BMTL,
    DTP,
    DWA,
    EMTL,
    FAMO,
    GLS,
    IMTLL,
    RLW,
    SLAW,
    STCH,
    GradNorm,
    UncertaintyWeighting,
)
from mtl_plugins.methods.weighting.vector_optimizer import VectorOptimizer

LOSSES = torch.tensor([0.3, 2.0, 7.0], dtype=torch.float64)
ALL = torch.ones(3, dtype=torch.bool)


def derivative(objective, losses):
    losses = losses.clone().requires_grad_()
    return torch.autograd.grad(objective(losses), losses)[0]


# ---------------------------------------------------------------------- weights that are a derivative
@pytest.mark.parametrize(
    ('weighting', 'objective'),
    [
        (GLS(tasks=3), lambda losses: losses.prod() ** (1 / 3)),
        (BMTL(5.0, normalise=False, tasks=3), lambda losses: torch.exp(losses / 5).sum()),
        (
            STCH(mu=0.7, form='linear', preferences={'0': 2.0, '1': 5.0}, reference={'2': 1.5}, tasks=3),
            lambda losses: (
                3 * 0.7 * torch.logsumexp(torch.tensor([2, 5, 1]) / 8 * (losses - torch.tensor([0, 0, 1.5])) / 0.7, 0)
            ),
        ),
        (STCH(tasks=3), lambda losses: losses.log().sum()),
    ],
)
def test_weights_are_the_derivative_of_the_objective(weighting, objective):
    torch.testing.assert_close(weighting.weights(LOSSES, ALL), derivative(objective, LOSSES), rtol=1e-10, atol=0)


def test_stch_after_the_warm_up():
    weighting = STCH(mu=0.5, warmup=2, tasks=3)
    weighting.set_epoch_length(2)
    for factor in (9.0, 9.0, 1.0, 3.0):
        assert torch.equal(weighting.weights(LOSSES, ALL), 1 / LOSSES)
        weighting.after_step(factor * LOSSES, None, ALL)
    losses = torch.tensor([0.5, 1.0, 9.0], dtype=torch.float64)
    expected = derivative(lambda x: 3 * 0.5 * torch.logsumexp((x / (2 * LOSSES)).log() / 0.5, 0), losses)
    torch.testing.assert_close(weighting.weights(losses, ALL), expected, rtol=1e-10, atol=0)


def test_stch_with_a_task_that_comes_after_the_warm_up():
    weighting = STCH(warmup=1, tasks=3)
    weighting.set_epoch_length(1)
    weighting.after_step(LOSSES, None, torch.tensor([True, True, False]))
    weighting.after_step(4 * LOSSES, None, ALL)
    torch.testing.assert_close(weighting.state_dict()['nadir'], torch.tensor([0.3, 2.0, 28.0], dtype=torch.float64))


# ---------------------------------------------------------------------- learned weights
@pytest.mark.parametrize('name', ['adam', 'sgd'])
def test_the_optimizer_is_that_of_torch(name):
    generator = torch.Generator().manual_seed(0)
    mine, state = torch.zeros(3, dtype=torch.float64), {}
    own = VectorOptimizer(None, name, lr=0.03, weight_decay=0.1)
    state.update(own.start(3))
    reference = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    kind = torch.optim.Adam if name == 'adam' else torch.optim.SGD
    optimizer = kind([reference], lr=0.03, weight_decay=0.1)
    for _ in range(50):
        grad = torch.randn(3, generator=generator, dtype=torch.float64)
        mine = own.step(mine, grad, torch.arange(3), state)
        reference.grad = grad
        optimizer.step()
    torch.testing.assert_close(mine, reference.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ('weighting', 'expected'),
    [
        (UncertaintyWeighting(lr=0.1, optimizer='sgd', tasks=3), 0.5 / LOSSES),
        (UncertaintyWeighting('classification', lr=0.05, tasks=3), 0.5 / LOSSES),
        (UncertaintyWeighting({'1': 'classification'}, lr=0.1, optimizer='sgd', tasks=3), 0.5 / LOSSES),
        (IMTLL(lr=0.1, optimizer='sgd', tasks=3), 1 / LOSSES),
    ],
)
def test_learned_weights_come_to_rest_where_the_papers_say(weighting, expected):
    for _ in range(2000):
        weighting.after_step(LOSSES, None, ALL)
    torch.testing.assert_close(weighting.weights(LOSSES, ALL), expected, rtol=1e-3, atol=0)


def test_the_two_forms_of_uncertainty_weighting_start_apart():
    weights = UncertaintyWeighting({'1': 'classification'}, tasks=3).weights(LOSSES, ALL)
    assert weights.tolist() == [0.5, 1.0, 0.5]


@pytest.mark.parametrize('form', ['direct', 'softmax'])
def test_gradnorm_steps_along_the_gradient_of_its_loss(form):
    weighting = GradNorm(
        alpha=1.5, lr=0.01, form=form, reference={'0': 1.0, '1': 1.0, '2': 2.0}, optimizer='sgd', tasks=3
    )
    norms = torch.tensor([0.5, 3.0, 2.0], dtype=torch.float64)
    for _ in range(3):
        weights, value = weighting.weights(LOSSES, ALL), weighting.state_dict()['values'].requires_grad_()
        learned = value if form == 'direct' else 3 * torch.softmax(value, 0)
        weighted = learned * norms
        rates = LOSSES / torch.tensor([1, 1, 2])
        target = (weighted.mean() * (rates / rates.mean()) ** 1.5).detach()
        expected = value.detach() - 0.01 * torch.autograd.grad((weighted - target).abs().sum(), value)[0]
        weighting.observe_grad_norms(norms, LOSSES, ALL)
        assert torch.equal(weighting.weights(LOSSES, ALL), weights)
        weighting.after_step(LOSSES, None, ALL)
        expected = 3 * expected / expected.sum() if form == 'direct' else expected
        torch.testing.assert_close(weighting.state_dict()['values'], expected, rtol=1e-10, atol=0)


def test_gradnorm_equalises_the_norms_and_favours_what_lags():
    norms = torch.tensor([0.5, 3.0, 2.0], dtype=torch.float64)
    for alpha, first in ((0.0, LOSSES), (0.3, LOSSES * torch.tensor([1.0, 1.0, 4.0]))):
        weighting = GradNorm(alpha=alpha, lr=1e-2, tasks=3)
        for losses in [first, *[LOSSES] * 400]:
            weighting.observe_grad_norms(norms, losses, ALL)
            weighting.after_step(losses, None, ALL)
        weighted = weighting.weights(LOSSES, ALL) * norms
        rates = LOSSES / first
        target = (rates / rates.mean()) ** alpha
        torch.testing.assert_close(weighted / weighted.mean(), target / target.mean(), rtol=0.1, atol=0)


def test_gradnorm_with_the_reference_of_the_first_epoch():
    weighting = GradNorm(reference='epoch', tasks=3)
    weighting.set_epoch_length(2)
    for factor in (1.0, 3.0, 5.0):
        assert weighting.weights(LOSSES, ALL).tolist() == ([1, 1, 1])
        weighting.observe_grad_norms(LOSSES, LOSSES, ALL)
        weighting.after_step(factor * LOSSES, None, ALL)
    torch.testing.assert_close(weighting.state_dict()['first_loss'], 2 * LOSSES)
    assert weighting.weights(LOSSES, ALL).tolist() != [1, 1, 1]


def test_emtl_makes_the_contributions_equal():
    weighting = EMTL(tasks=3)
    norms = torch.tensor([0.5, 3.0, 2.0], dtype=torch.float64)
    weighting.observe_grad_norms(norms, LOSSES, ALL)
    weights = weighting.weights(LOSSES, ALL)
    contributions = weights * LOSSES / norms
    torch.testing.assert_close(contributions, contributions[:1].expand(3), rtol=1e-12, atol=0)
    weighting.after_step(LOSSES, None, ALL)
    with pytest.raises(RuntimeError, match='observe_grad_norms'):
        weighting.weights(LOSSES, ALL)


def test_famo_gives_less_to_the_task_that_gained_more():
    weighting = FAMO(gamma=0.0, tasks=3)
    for _ in range(5):
        weighting.after_step(LOSSES, LOSSES * torch.tensor([0.5, 0.9, 1.0]), ALL)
    first, second, third = weighting.state_dict()['logits'].tolist()
    assert first < second < third
    bounded = FAMO(lower_bounds={'2': 5.0}, tasks=3)
    distance = torch.tensor([0.3, 2.0, 2.0], dtype=torch.float64) + 1e-8
    torch.testing.assert_close(bounded.weights(LOSSES, ALL), (1 / distance) / (1 / distance).sum())


# ---------------------------------------------------------------------- averages
def test_dwa_ignores_an_epoch_without_the_task():
    weighting = DWA(tasks=3)
    weighting.set_epoch_length(2)
    without = torch.tensor([True, True, False])
    for losses, present in [(LOSSES, ALL), (LOSSES / 2, ALL), (LOSSES, without), (LOSSES / 4, ALL)]:
        for _ in range(2):
            weighting.after_step(losses, None, present)
    ratios = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)
    torch.testing.assert_close(weighting.weights(LOSSES, ALL), 3 * torch.softmax(ratios / 2, 0))


def test_dwa_with_a_window_waits_until_it_is_full():
    weighting = DWA(window=2, tasks=2)
    present = torch.ones(2, dtype=torch.bool)
    history = torch.tensor([[4.0, 4.0], [4.0, 2.0], [2.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    for losses in history[:3]:
        assert weighting.weights(losses, present).tolist() == [1.0, 1.0]
        weighting.after_step(losses, None, present)
    ratios = history[2:].mean(0) / history[:2].mean(0)
    torch.testing.assert_close(weighting.weights(history[3], present), 2 * torch.softmax(ratios / 2, 0))


def test_dtp_needs_kpis_only_in_its_metric_form():
    weighting = DTP(limits=(0.05, 0.9), tasks=3)
    assert weighting.needs_kpis
    assert weighting.weights(LOSSES, ALL).tolist() == [1, 1, 1]
    weighting.update_kpis({'0': 0.0, '2': 1.0})
    expected = [-0.95 * math.log(0.05), 1.0, -0.1 * math.log(0.9)]
    assert weighting.weights(LOSSES, ALL).tolist() == pytest.approx(expected)
    assert not DTP(kpi='loss').needs_kpis


def test_dtp_from_the_losses():
    weighting = DTP(kpi='loss', alpha=0.5, gamma={'1': 2.0}, normalise=False, tasks=3)
    assert weighting.weights(LOSSES, ALL).tolist() == [1, 1, 1]
    weighting.after_step(LOSSES, None, ALL)
    assert weighting.weights(LOSSES, ALL).tolist() == [1, 1, 1]
    weighting.after_step(LOSSES * torch.tensor([0.2, 0.6, 2.0]), None, ALL)
    kpi = [0.6, 0.8, 0.99]
    expected = [-0.4 * math.log(0.6), -0.04 * math.log(0.8), -0.01 * math.log(0.99)]
    assert weighting.weights(LOSSES, ALL).tolist() == pytest.approx(expected)
    assert weighting.state_dict()['kpi'].clamp_max(0.99).tolist() == pytest.approx(kpi)


def test_slaw_keeps_small_fluctuations_of_large_losses():
    """The difference of mean squares would lose them to rounding."""
    weighting = SLAW(eps=1e-15, tasks=2)
    present = torch.ones(2, dtype=torch.bool)
    for sign in (1, -1, 1, -1):
        weighting.after_step(torch.tensor([1e6 + sign * 1e-4, 2.0 + sign], dtype=torch.float64), None, present)
    deviation = weighting.state_dict()['variance'].sqrt()
    torch.testing.assert_close(deviation, torch.tensor([1e-4, 1.0], dtype=torch.float64), rtol=1e-5, atol=0)


def test_rlw_draws_once_per_step_and_is_even_in_the_mean():
    weighting, generator = RLW(tasks=3), torch.Generator().manual_seed(0)
    draws = []
    for _ in range(3000):
        weighting.begin_step(generator)
        draws.append(weighting.weights(LOSSES, ALL))
        assert torch.equal(weighting.weights(2 * LOSSES, ALL), draws[-1])
    draws = torch.stack(draws)
    torch.testing.assert_close(draws.mean(0), torch.full((3,), 1 / 3, dtype=torch.float64), rtol=0.03, atol=0)
    logits = draws.log() - draws.log().mean(1, keepdim=True)
    # The logits without their mean have the variance 1 - 1/K.
    torch.testing.assert_close(logits.var(0), torch.full((3,), 2 / 3, dtype=torch.float64), rtol=0.1, atol=0)


# ---------------------------------------------------------------------- messages
@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda: UncertaintyWeighting('poisson'), "form must be one of .*'classification'.*got 'poisson'"),
        (lambda: UncertaintyWeighting({'depht': 'regression'}, tasks=['depth']), "'depht': did you mean 'depth'"),
        (lambda: UncertaintyWeighting(lr=0), r'lr must be a number in \(0, inf\], but got 0'),
        (lambda: UncertaintyWeighting(optimizer='lion'), "optimizer must be one of .*got 'lion'"),
        (lambda: IMTLL(lr=float('nan')), 'lr must be a number'),
        (lambda: DWA(temperature=0), 'temperature must be a number'),
        (lambda: DWA(window=0), 'window must be an integer >= 1 or None, but got 0'),
        (lambda: DWA(window=3, window_start='zeros'), "window_start must be one of .*got 'zeros'"),
        (lambda: DWA(tasks=2).set_epoch_length(0), 'iterations must be an integer >= 1, but got 0'),
        (lambda: DTP(kpi='iou'), "kpi must be one of .*got 'iou'"),
        (lambda: DTP(gamma=-1), 'gamma must be a number'),
        (lambda: DTP(alpha=0), 'alpha must be a number'),
        (lambda: DTP(limits=(0, 1)), 'limits must be two numbers'),
        (lambda: DTP(gamma={'a': 1.0}, tasks=['b']), "gamma names the unknown task 'a'"),
        (lambda: DTP(tasks=['a']).update_kpis({'b': 0.5}), "kpis names the unknown task 'b'"),
        (lambda: DTP(tasks=['a']).update_kpis({'a': 41.0}), r"KPI of 'a' must lie in \[0, 1\], but got 41"),
        (lambda: DTP(tasks=['a']).update_kpis({'a': float('nan')}), 'must lie in'),
        (lambda: SLAW(decay=1.0), 'decay must be a number'),
        (lambda: SLAW(eps=0), 'eps must be a number'),
        (lambda: FAMO(gamma=-1), 'gamma must be a number'),
        (lambda: FAMO(lower_bounds={'x': 1.0}, tasks=['a']), "lower_bounds names the unknown task 'x'"),
        (lambda: FAMO(tasks=3).after_step(LOSSES, None, ALL), 'needs the losses after the step, but got None'),
        (lambda: FAMO(lower_bounds=1.0, tasks=3).weights(LOSSES, ALL), "the loss of '0' is -0.7"),
        (lambda: STCH(mu=0), 'mu must be a number'),
        (lambda: STCH(form='max'), "form must be one of .*got 'max'"),
        (lambda: STCH(warmup=0), 'warmup must be an integer >= 1'),
        (lambda: STCH(preferences={'a': 0.0}), 'preferences must be a number'),
        (lambda: STCH(preferences={'a': 1.0}, tasks=['b']), "preferences names the unknown task 'a'"),
        (lambda: STCH(reference={'a': 1.0}, tasks=['b']), "reference names the unknown task 'a'"),
        (lambda: BMTL(temperature=-1), 'temperature must be a number'),
        (lambda: GradNorm(alpha=-1), 'alpha must be a number'),
        (lambda: GradNorm(floor=0), 'floor must be a number'),
        (lambda: GradNorm(form='log'), 'form must be one of'),
        (lambda: GradNorm(reference='last'), 'reference must be one of'),
        (lambda: GradNorm(reference={'a': 0.0}), 'reference must be a number'),
        (
            lambda: GLS(tasks=['a', 'b', 'c']).weights(LOSSES - 1, ALL),
            "GLS needs losses >= 0, but the loss of 'a' is -0.7",
        ),
    ],
)
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ('use', 'words'),
    [
        (lambda: RLW(tasks=3).weights(LOSSES, ALL), r'RLW: call begin_step\(generator\) before weights'),
        (lambda: RLW().begin_step(torch.Generator()), 'RLW: call bind'),
        (lambda: DTP().update_kpis({}), 'DTP: call bind'),
        (lambda: DWA(tasks=3).after_step(LOSSES, None, ALL), r'call set_epoch_length\(iterations\)'),
        (lambda: STCH(tasks=3).after_step(LOSSES, None, ALL), r'call set_epoch_length\(iterations\)'),
        (lambda: GradNorm(tasks=3).after_step(LOSSES, None, ALL), 'call observe_grad_norms'),
        (lambda: EMTL(tasks=3).weights(LOSSES, ALL), 'call observe_grad_norms'),
        (lambda: GLS().weights(LOSSES, ALL), 'GLS: call bind'),
    ],
)
def test_what_was_not_told_is_named(use, words):
    with pytest.raises(RuntimeError, match=words):
        use()


def test_the_generator_is_required():
    with pytest.raises(TypeError, match=r'needs a torch.Generator, but got None'):
        RLW(tasks=2).begin_step(None)
