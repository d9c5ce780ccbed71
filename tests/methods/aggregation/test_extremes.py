"""Rows at the ends of float32: from 1e-30 to 1e30 side by side, denormal ones, and the largest there are."""

import pytest
import torch

from mtl_plugins.methods import aggregation

from .cases import call, makers, seeded

MAKERS = makers()
every = pytest.mark.parametrize('make', [make for _, make in MAKERS], ids=[name for name, _ in MAKERS])
KINDS = ('spanning rows', 'spanning entries', 'denormal', 'opposite', 'largest')


def extreme(kind, generator):
    """A float32 matrix of one to six rows."""
    num_rows, length = (int(torch.randint(1, high, (), generator=generator)) for high in (7, 12))
    G = torch.randn(num_rows, length, dtype=torch.float64, generator=generator)
    exponents = torch.rand(num_rows, length, dtype=torch.float64, generator=generator)
    if kind == 'spanning entries':
        G *= 10 ** (60 * exponents - 30)
    elif kind == 'denormal':
        G *= 10 ** (7 * exponents[:, :1] - 45)
    elif kind == 'largest':
        G *= 10 ** (8 * exponents[:, :1] + 30)
    else:
        G *= 10 ** (60 * exponents[:, :1] - 30)
    if kind == 'opposite':
        half = num_rows // 2
        G[num_rows - half :] = -G[:half]
    return G.clamp(-3e38, 3e38).float()


@every
@pytest.mark.parametrize('kind', KINDS)
def test_the_update_is_finite_and_that_of_double_precision(make, kind):
    """Also in later calls, when state has been kept, and for losses from 1e-6 to 1e6."""
    generator = seeded(KINDS.index(kind))
    limits = torch.finfo(torch.float32)
    for number in range(3):
        G = extreme(kind, generator)
        losses = 10 ** (12 * torch.rand(len(G), generator=generator) - 6)
        narrow, wide = make(), make()
        for _ in range(2):
            update, exact = call(narrow, G, losses, number), call(wide, G.double(), losses.double(), number)
            assert update.dtype == torch.float32
            assert torch.isfinite(update).all()
            assert torch.isfinite(exact).all()
            # Coordinates beyond float32 end at its limits; those below it cannot be told apart.
            exact = exact.clamp(limits.min, limits.max)
            summands = (
                G.double().abs().sum(0) if narrow.last_weights is None else narrow.last_weights.abs() @ G.double().abs()
            )
            assert ((update - exact).abs() <= 1e-4 * exact.abs() + 1e-5 * summands + 1e-44).all()
        assert narrow.rows_used == int(G.any(1).sum())


@pytest.mark.parametrize('losses', [[0.0, 1.0], [1e-30, 1e30]])
@pytest.mark.parametrize('make', [aggregation.DBMTL, aggregation.MoCo, aggregation.ExcessMTL])
def test_what_is_kept_may_become_extreme_itself(make, losses):
    """Ordinary rows whose factors are not: a loss of zero, and losses far apart."""
    aggregator = make()
    G = torch.randn(2, 9, generator=seeded(1)) * torch.tensor([[1e-12], [1e12]])
    for _ in range(3):
        update = call(aggregator, G, torch.tensor(losses))
        assert torch.isfinite(update).all()
        assert update.any()


@every
def test_rows_too_long_for_double_precision_are_named(make):
    with pytest.raises(ValueError, match=r'rows \[1\].* are not finite, or so long \(1e154\)'):
        call(make(), torch.tensor([[1.0, 2.0], [1e200, 1.0]], dtype=torch.float64))
