"""Against TorchJD 0.18 itself: random rows, and rows that are equal, opposite, dependent or zero."""

import pytest
import torch

from mtl_plugins.methods.aggregation import CRMOGM, PCD, AlignedMTL, ConFIG, DualProj, MoDo, UPGrad

from .cases import matrix, seeded

peer = pytest.importorskip('torchjd.aggregation')
linalg = pytest.importorskip('torchjd.linalg')
KINDS = ('normal', 'equal', 'opposite', 'rank_one', 'zero_rows', 'short_rows')


def exact():
    """Its projection without what it adds by default, but for as much as its solver needs on dependent rows."""
    return linalg.QuadprogProjector(norm_eps=0.0, reg_eps=1e-12)


def rows(kind, generator, count=1):
    """Some matrices of equally many rows."""
    num_rows = int(torch.randint(2, 7, (), generator=generator))
    return [matrix(kind, generator, num_rows=num_rows) for _ in range(count)]


def check(update, expected, G):
    assert (update - expected).norm() <= 1e-6 * G.norm(dim=1).max().clamp_min(1e-300)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('tau', [0.02, 0.0, 1.0])
def test_pcd(kind, tau):
    generator = seeded(1)
    for _ in range(20):
        ours, theirs = PCD(tau=tau), peer.PCD(tau=tau)
        for G in rows(kind, generator, count=3):
            if not G.any(1).all():
                break  # a row of zeros leaves our averages alone, and theirs not
            check(ours(G), theirs(G), G)


@pytest.mark.parametrize('kind', KINDS)
def test_modo(kind):
    generator = seeded(2)
    for _ in range(20):
        ours, theirs = MoDo(), peer.MoDoWeighting()
        batches = rows(kind, generator, count=4)
        width = min(G.shape[1] for G in batches)
        batches = torch.stack([G[:, :width] for G in batches])
        if not batches.any(2).all():
            continue  # we leave rows of zeros out
        for pair in batches.view(2, 2, *batches.shape[1:]):
            update, weights = ours(pair), theirs(pair[0] @ pair[1].T)
            torch.testing.assert_close(ours.last_weights, weights, rtol=0, atol=1e-6)
            torch.testing.assert_close(update, weights @ pair.mean(0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_cr_mogm(kind):
    generator = seeded(3)
    for _ in range(20):
        # a method whose weights are unique on dependent rows too
        ours = CRMOGM(AlignedMTL('rmse'), alpha=0.8)
        theirs = peer.CRMOGMWeighting(peer.AlignedMTLWeighting(scale_mode='rmse'), alpha=0.8)
        for G in rows(kind, generator, count=3):
            if not G.any(1).all():
                break
            check(ours(G), theirs(G @ G.T) @ G, G)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', ['UPGrad', 'DualProj', 'AlignedMTL', 'ConFIG'])
def test_preferences(kind, name):
    generator = seeded(4)
    solver = dict(projector=exact()) if name in ('UPGrad', 'DualProj') else {}
    if solver and kind == 'short_rows':
        pytest.skip('its solver does without rows that are 10^10 times shorter than others')
    for _ in range(20):
        (G,) = rows(kind, generator)
        preferences = 0.1 + 2 * torch.rand(len(G), dtype=torch.float64, generator=generator)
        preferences[0] *= float(torch.rand((), generator=generator) < 0.8)  # some have none at all
        kinds = dict(UPGrad=UPGrad, DualProj=DualProj, AlignedMTL=AlignedMTL, ConFIG=ConFIG)
        if not G.any() and solver:
            continue  # which its solver refuses
        check(kinds[name](pref_vector=preferences)(G), getattr(peer, name)(preferences, **solver)(G), G)
