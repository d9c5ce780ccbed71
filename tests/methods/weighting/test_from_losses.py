"""UW-SO, GO4Align, LDC-MTL and IGB against slow, obvious versions."""

import itertools
import math

import pytest
import torch

from mtl_plugins.methods.weighting import IGB, LDCMTL, UWSO, GO4Align


def _run(weighting, steps, present=None):
    """Weights of each step, with ``after_step`` behind it."""
    found = []
    for losses in steps:
        mask = torch.ones(len(losses), dtype=torch.bool) if present is None else present
        found.append(weighting.weights(losses, mask))
        weighting.after_step(losses, None, mask)
    return torch.stack(found)


def test_uw_so_is_the_softmax_of_inverse_losses_and_sums_to_one():
    losses = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    weights = UWSO(temperature=2.0, tasks=3).weights(losses, torch.ones(3, dtype=torch.bool))
    expected = [math.exp(1 / (2 * loss)) for loss in losses.tolist()]
    assert weights.tolist() == pytest.approx([value / sum(expected) for value in expected])


@pytest.mark.parametrize('num_groups', [1, 2, 3, 9])
def test_go4align_equals_its_formula_and_every_grouping_tried(num_groups):
    steps = torch.rand(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 5 + 0.1
    found = _run(GO4Align(num_groups=num_groups, eta=0.1, tasks=5), steps)
    shares = torch.full((5,), 0.2, dtype=torch.float64)
    for losses, weights in zip(steps, found):
        shares = shares * torch.exp(-0.1 * losses)
        shares = shares / shares.sum()
        risks = shares * losses.sum() / losses
        least, best = math.inf, None
        for labels in itertools.product(range(min(num_groups, 5)), repeat=5):
            means = torch.stack([risks[[k for k in range(5) if labels[k] == label]].mean() for label in labels])
            if (risks - means).square().sum() < least - 1e-15:
                least, best = (risks - means).square().sum(), means
        torch.testing.assert_close(weights, best, rtol=1e-12, atol=0)


def test_ldc_mtl_is_the_derivative_of_its_objective():
    steps = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 3 + 0.1
    weighting = LDCMTL(lamda=0.2, lr=0.5, optimizer='sgd', tasks=4)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    for losses, weights in zip(steps.clone().requires_grad_().unbind(), _run(weighting, steps)):
        sigma = torch.softmax(logits, 0)
        weighted = sigma * losses * steps[0].min() / steps[0]
        objective = weighted.sum() / sigma.sum() + 0.2 * (weighted[:-1] - weighted[1:]).abs().sum()
        by_loss, by_logit = torch.autograd.grad(objective, [losses, logits])
        torch.testing.assert_close(weights, by_loss, rtol=1e-12, atol=0)
        logits = (logits - 0.5 * by_logit).detach().requires_grad_()
    ordered, other = (LDCMTL(lamda=0.2, tasks=list(names)) for names in ('abcd', 'acbd'))
    swap = [0, 2, 1, 3]
    weights = [_run(weighting, losses)[1] for weighting, losses in ((ordered, steps), (other, steps[:, swap]))]
    assert not torch.allclose(weights[0], weights[1][swap]), 'neighbours count, so that the order does'


def test_igb_takes_the_mean_losses_of_the_base_epoch():
    steps = torch.rand(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) + 0.1
    weighting = IGB(tasks=3)
    weighting.set_epoch_length(3)
    found = _run(weighting, steps)
    torch.testing.assert_close(found[:6], 1 / steps[:6])
    factors = 3 * torch.softmax(steps[6:] / steps[3:6].mean(0), 1)
    torch.testing.assert_close(found[6:], factors / steps[6:])


@pytest.mark.parametrize('kind', [UWSO, GO4Align, LDCMTL, IGB])
def test_negative_losses_are_refused(kind):
    with pytest.raises(ValueError, match="needs losses >= 0, but the loss of '1' is -2"):
        kind(tasks=2).weights(torch.tensor([1.0, -2.0]), torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: UWSO(temperature=0), 'temperature must be a number in'),
        (lambda: GO4Align(num_groups=0), 'num_groups must be an integer >= 1, but got 0'),
        (lambda: GO4Align(eta=-1), 'eta must be a number in'),
        (lambda: LDCMTL(lamda=0.5), 'lamda must be a number in'),
        (lambda: IGB(base_epoch=-1), 'base_epoch must be an integer >= 0, but got -1'),
    ],
)
def test_arguments_of_the_second_wave_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
