import json
from pathlib import Path

import pytest
import torch

from mtl_plugins.methods.aggregation import (
    DBMTL,
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    ConicGrad,
    DualProj,
    FairGrad,
    GradVac,
    MoCo,
    NashMTL,
    NGDiff,
    PCGrad,
    UPGrad,
)

from . import conditions

FOLDER = Path(__file__).parents[2] / 'data' / 'vectors'

MAKE = dict(
    aligned_mtl=lambda h: AlignedMTL(h['scale_mode']),
    cagrad=lambda h: CAGrad(h['c'], dict(none=0).get(h['rescale'], h['rescale'])),
    config=lambda h: ConFIG(),
    conicgrad=lambda h: ConicGrad(h['c']),
    db_mtl=lambda h: DBMTL(h['beta'], h['beta_sigma']),
    dualproj=lambda h: DualProj(),
    fairgrad=lambda h: FairGrad(h['alpha']),
    gradvac=lambda h: GradVac(h['beta'], order='ascending'),
    imtlg=lambda h: IMTLG(),
    mgda=lambda h: MGDA(h.get('mgda_gn', 'none'), apply_to='normalised'),
    moco=lambda h: MoCo(h['beta'], h['beta_sigma'], h['gamma'], h['gamma_sigma'], h['rho']),
    nash_mtl=lambda h: NashMTL(h['max_norm'] or None),
    ngdiff=lambda h: NGDiff(),
    pcgrad=lambda h: PCGrad(order='ascending'),
    upgrad=lambda h: UPGrad(),
)

# Records that are not the solution of the stated problem: (file, indices, reason, condition that ours meets instead).
APPROXIMATE = (
    ('agg_mgda', (1, 3), 'Frank-Wolfe stopped before the optimum, 2e-2 and 2e-5 off', conditions.mgda),
    ('agg_mgda', (11,), 'iterative solver of LibMTL on unit rows, 4e-6 off', conditions.mgda_unit_rows),
    ('agg_cagrad', (0, 2), 'interior-point solver of TorchJD, up to 8e-6 off', conditions.cagrad),
    ('agg_cagrad', (4, 6, 8, 10, 12, 14), 'SLSQP on smoothed roots, up to 8e-4 off', conditions.cagrad),
    ('agg_upgrad', (0, 1, 4, 5), '1e-4 on the diagonal of the Gramian, up to 4e-4 off', conditions.upgrad),
    ('agg_pcgrad', (4, 5), '1e-5 added to squared lengths, 4e-6 off', conditions.pcgrad),
)
REPLACED = {(file, index): condition for file, indices, _, condition in APPROXIMATE for index in indices}


def records():
    for prefix in ('agg', 'exact', 'derived'):
        for path in sorted(FOLDER.glob(f'{prefix}_*.json')):
            for index, record in enumerate(json.loads(path.read_text())):
                yield pytest.param(path.stem, index, record, id=f'{path.stem}-{index}')


def documented_factor(name, record, num_rows):
    """Length of the record's update over that of ours, by the conventions in the docstrings."""
    source, settings = record['source'], record['hyperparameters']
    if name == 'agg_aligned_mtl':
        return num_rows if settings['pref'] == 'sum over tasks' else 1
    if settings.get('scale') == 'update multiplied by K':
        return num_rows
    if name == 'agg_mgda' and 'nash-mtl' in source:
        return num_rows
    return 1


@pytest.mark.parametrize(('name', 'index', 'record'), list(records()))
def test_frozen_vector(name, index, record):
    G = torch.tensor(record['G'], dtype=torch.float64)
    aggregator = MAKE[name.split('_', 1)[1]](record['hyperparameters'])
    update = aggregator(G, torch.ones(len(G), dtype=torch.float64))
    expected = torch.tensor(record['update'], dtype=torch.float64)
    assert aggregator.fallbacks == 0
    if (name, index) in REPLACED:
        assert REPLACED[name, index](aggregator, G, update) <= 1e-10
        # still recognisably the same update
        cosine = torch.cosine_similarity(update, expected, 0)
        assert cosine > 0.999
        return
    tolerance = 1e-8 if name.startswith('exact') else 1e-6
    direction = update / update.norm() - expected / expected.norm()
    assert direction.norm() <= tolerance
    scale = expected.norm() / update.norm() / documented_factor(name, record, len(G))
    assert abs(scale - 1) <= tolerance


def test_every_replaced_record_exists_and_really_differs():
    found = {(p.values[0], p.values[1]): p.values[2] for p in records()}
    for name, index in REPLACED:
        record = found[name, index]
        G = torch.tensor(record['G'], dtype=torch.float64)
        update = MAKE[name.split('_', 1)[1]](record['hyperparameters'])(G, torch.ones(len(G), dtype=torch.float64))
        expected = torch.tensor(record['update'], dtype=torch.float64) / documented_factor(name, record, len(G))
        assert (update - expected).norm() > 1e-6 * expected.norm(), (name, index)


def test_imtl_is_imtl_g_on_the_rows_that_imtl_l_scales():
    """IMTL of LibMTL at s = 0 is IMTL-G; with factors e^s its rows are e^s g_k."""
    G = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factors = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    update = IMTLG()(factors[:, None] * G)
    projections = (G @ update) / G.norm(dim=1)
    assert (projections - projections[0]).abs().max() < 1e-12
