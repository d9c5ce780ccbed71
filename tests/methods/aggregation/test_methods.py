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
    ExcessMTL,
    FairGrad,
    GradDrop,
    GradVac,
    Mean,
    MoCo,
    NashMTL,
    NGDiff,
    PCGrad,
    SDMGrad,
    Sum,
    UPGrad,
)

from . import conditions
from .cases import call, matrix, seeded

ONE = torch.ones((), dtype=torch.float64)


def independent(number, num_rows=None, kind='normal'):
    """A matrix with fewer rows than columns."""
    generator = seeded(number)
    G = torch.randn(num_rows or 2 + number % 5, 12, dtype=torch.float64, generator=generator)
    if kind == 'scales':
        G *= 10 ** (4 * torch.rand(len(G), 1, dtype=torch.float64, generator=generator) - 2)
    return G


@pytest.mark.parametrize('kind', ['normal', 'scales'])
@pytest.mark.parametrize(
    ('aggregator', 'condition'),
    [
        (MGDA(), conditions.mgda),
        (MGDA('l2', apply_to='normalised'), conditions.mgda_unit_rows),
        (CAGrad(0.4), conditions.cagrad),
        (CAGrad(0.9, rescale=0), conditions.cagrad),
        (CAGrad(2.0, rescale=2), conditions.cagrad),
        (FairGrad(0.5), conditions.fair),
        (FairGrad(1.0), conditions.fair),
        (FairGrad(2.0), conditions.fair),
        (FairGrad(5.0), conditions.fair),
        (NashMTL(), conditions.fair),
        (UPGrad(), conditions.upgrad),
        (DualProj(), conditions.dualproj),
        (PCGrad('ascending'), conditions.pcgrad),
    ],
)
def test_optimality_residual(aggregator, condition, kind):
    for number in range(60):
        G = independent(number, kind=kind)
        before = aggregator.fallbacks
        assert condition(aggregator, G, aggregator(G)) <= 1e-10, number
        assert aggregator.fallbacks == before


def test_nash_has_length_root_k_and_improves_all():
    for number in range(30):
        G = independent(number, kind='scales')
        update = NashMTL()(G)
        assert float(update @ update) == pytest.approx(len(G), rel=1e-9)
        assert (G @ update > 0).all()
    update = NashMTL(max_norm=1.0)(G)
    assert float(update.norm()) == pytest.approx(1)


def test_imtl_g_has_equal_projections_and_weights_that_sum_to_one():
    for number in range(30):
        G = independent(number)
        aggregator = IMTLG()
        projections = G @ aggregator(G) / G.norm(dim=1)
        assert (projections - projections[0]).abs().max() <= 1e-10 * projections[0].abs()
        if not aggregator.fallbacks:
            assert float(aggregator.last_weights.sum()) == pytest.approx(1)
        assert projections[0] > 0


def test_imtl_g_does_not_turn_against_all_tasks():
    """A short row against a long one: with sum a = 1 the sum before normalisation is negative."""
    G = torch.tensor([[1.0, 0.0, 0.0], [-900.0, 300.0, 0.0], [-900.0, -200.0, 10.0]], dtype=torch.float64)
    raw = torch.linalg.solve(G @ G.T, G.norm(dim=1))
    aggregator = IMTLG()
    update = aggregator(G)
    assert (G @ update > 0).all()
    assert aggregator.fallbacks == int(raw.sum() <= 0)


def test_config_has_equal_cosines_and_the_length_of_the_projections():
    for number in range(30):
        G = independent(number, kind='scales')
        update = ConFIG()(G)
        cosines = G @ update / G.norm(dim=1) / update.norm()
        assert (cosines - cosines[0]).abs().max() <= 1e-9
        assert float(update.norm()) == pytest.approx(float((G @ update).sum() / update.norm()))


@pytest.mark.parametrize('scale_mode', ['min', 'median', 'rmse'])
def test_aligned_system_is_orthogonal(scale_mode):
    G = independent(3, num_rows=4)
    update = AlignedMTL(scale_mode)(G)
    left, values, right = torch.linalg.svd(G, full_matrices=False)
    squares = values.square().sort().values
    pivot = dict(min=squares[0], median=squares[1], rmse=squares.mean())[scale_mode]
    assert torch.allclose(update, pivot.sqrt() * (left @ right).mean(0))


@pytest.mark.parametrize('c', [0.0, 0.25, 0.5, 0.9])
def test_conicgrad_is_optimal_in_its_cone(c):
    """No unit vector of the cone, near or far, has a larger least product; and the conditions that define the cone."""
    generator = seeded(21)
    on_cone = 0
    for number in range(30):
        G = independent(number)
        G += 0.4 * G[:1]
        aggregator = ConicGrad(c)
        update = aggregator(G)
        mean = G.mean(0)
        assert float(update.norm()) == pytest.approx(float(mean.norm()), rel=1e-9)
        cosine = update @ mean / update.norm() / mean.norm()
        assert cosine >= c - 1e-9
        on_cone += bool(cosine < c + 1e-9)
        value = (G @ update).min()
        for spread in (1e-6, 1e-3, 0.1, 1.0, 10.0):
            other = update + spread * update.norm() * torch.randn(200, 12, dtype=torch.float64, generator=generator)
            other = other / other.norm(dim=1, keepdim=True) * mean.norm()
            inside = other @ mean >= c * mean.norm() ** 2
            if inside.any():
                assert (other[inside] @ G.T).min(1).values.max() <= value + 1e-10 * mean.norm() * G.norm()
        # dual: for any w, the best product over the cone is |projection of g_w on it|; at the optimum they agree
        if not aggregator.fallbacks:
            assert float(value) == pytest.approx(_dual_of_cone(G, c), rel=1e-4)
    assert on_cone or c < 0.9


def _dual_of_cone(G, c):
    """min over the simplex of |projection of g_w on the cone| |g_0|, by the multiplicative-weights method."""
    mean = G.mean(0)
    axis = mean / mean.norm()
    logits = torch.zeros(len(G), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], lr=1, max_iter=500, tolerance_grad=1e-12, line_search_fn='strong_wolfe')
    side = (1 - c**2) ** 0.5

    def value():
        vector = torch.softmax(logits, 0) @ G
        along = vector @ axis
        across = (vector - along * axis).norm()
        if across * c <= along * side:
            return vector.norm() * mean.norm()
        return (c * along + side * across) * mean.norm()

    def closure():
        optimizer.zero_grad()
        loss = value()
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(value().detach())


def test_mgda_for_two_tasks_has_a_closed_form():
    for number in range(20):
        G = independent(number, num_rows=2, kind='scales')
        a, b = G
        share = (((b - a) @ b) / (a - b).square().sum()).clamp(0, 1)
        assert torch.allclose(MGDA()(G), share * a + (1 - share) * b, atol=1e-12)


def test_mgda_normalisers():
    G, losses = independent(2, num_rows=3), torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    for normaliser, divisor in dict(l2=G.norm(dim=1), loss=losses, **{'loss+': losses * G.norm(dim=1)}).items():
        plain = MGDA()
        expected = plain(G / divisor[:, None])
        assert torch.allclose(MGDA(normaliser, apply_to='normalised')(G, losses), expected)
        assert torch.allclose(MGDA(normaliser)(G, losses), plain.last_weights @ G)
    aggregator = MGDA('loss')
    assert torch.equal(aggregator(G, 0 * losses), MGDA()(G))
    assert aggregator.fallbacks == 1


def test_opposite_rows():
    G = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
    third = G[2]
    assert call(MGDA(), G).norm() < 1e-12
    for aggregator in (NashMTL(), FairGrad(), IMTLG(), ConFIG(), CAGrad(c=2.0)):
        update = call(aggregator, G)
        assert aggregator.fallbacks == 1, aggregator
        assert torch.cosine_similarity(update, third, 0) > 1 - 1e-9, aggregator
    for aggregator in (UPGrad(), DualProj()):
        assert torch.allclose(call(aggregator, G), third / 3), aggregator
    pair = G[:2]
    for aggregator in (NashMTL(), IMTLG(), ConFIG(), CAGrad(), ConicGrad(), UPGrad(), DualProj(), PCGrad(), Mean()):
        assert call(aggregator, pair).norm() < 1e-9, aggregator


def test_cagrad_with_a_short_row_does_not_vanish():
    """A public implementation gives a zero update here."""
    G = independent(4, num_rows=4)
    G[0] *= 1e-6
    update = CAGrad(0.4, rescale=0)(G)
    assert update.norm() > 0.1 * G.mean(0).norm()
    assert (update - G.mean(0)).norm() <= 0.4 * G.mean(0).norm() * (1 + 1e-9)


def test_random_orders_follow_the_generator():
    G = torch.randn(6, 4, dtype=torch.float64, generator=seeded(2))
    for make in (PCGrad, GradVac):
        updates = {tuple(call(make(), G, seed=seed).tolist()) for seed in range(20)}
        assert len(updates) > 3
    state = torch.get_rng_state()
    call(PCGrad(), G)
    call(GradDrop(), G)
    assert torch.equal(torch.get_rng_state(), state)


def test_pcgrad_takes_every_order():
    from mtl_plugins.methods.aggregation.pcgrad import partner_orders

    seen = {tuple(partner_orders(3, seeded(seed))[0].tolist()) for seed in range(40)}
    assert seen == {(1, 2), (2, 1)}


def test_gradvac_reaches_its_target_and_the_targets_follow():
    G = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    aggregator = GradVac(beta=0.5, order='ascending', tasks=2)
    aggregator.load_state_dict(dict(targets=torch.full((2, 2), 0.6, dtype=torch.float64)))
    update = aggregator(G)
    # cosine 0.6 with the other row: p = (1, 0.75)
    assert torch.allclose(update, torch.tensor([1.75, 1.75], dtype=torch.float64))
    targets = aggregator.state_dict()['targets']
    assert targets[0, 1] == targets[1, 0] == pytest.approx(0.3)
    assert targets[0, 0] == 0.6


def test_graddrop_keeps_a_sign_as_often_as_it_should():
    G = torch.tensor([[3.0], [-1.0], [1.0]], dtype=torch.float64).expand(3, 200_000).clone()
    update = call(GradDrop(), G)
    assert set(update.unique().tolist()) == {-1.0, 4.0}
    assert float((update == 4).double().mean()) == pytest.approx(0.8, abs=0.005)
    leaking = call(GradDrop(leak=0.25), G)
    assert set(leaking.unique().tolist()) == {0.25 * 3 - 0.75, 0.25 * 3 + 0.75 * 4}
    own = GradDrop(leak=dict(a=1.0), tasks=['a', 'b', 'c'])
    assert set(call(own, G).unique().tolist()) == {3.0 - 1.0, 3.0 + 1.0}


def test_graddrop_gives_zero_where_all_rows_are_zero():
    G = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    assert call(GradDrop(), G).tolist() == [3.0, 0.0]


def test_db_mtl_over_several_steps():
    generator = seeded(1)
    aggregator, buffer = DBMTL(beta=0.9, beta_sigma=0.5), torch.zeros(3, 5, dtype=torch.float64)
    for step in range(1, 5):
        G = torch.randn(3, 5, dtype=torch.float64, generator=generator)
        losses = torch.rand(3, dtype=torch.float64, generator=generator) + 0.1
        rows = G / (losses + 1e-8)[:, None]
        buffer = rows + 0.9 / step**0.5 * (buffer - rows)
        norms = buffer.norm(dim=1)
        assert torch.allclose(aggregator(G, losses), (norms.max() / norms) @ buffer)
    assert torch.allclose(aggregator.head_weights(None, losses), 1 / (losses + 1e-8))


def test_moco_over_several_steps():
    generator = seeded(2)
    aggregator = MoCo(rho=0.1)
    y, share = torch.zeros(3, 5, dtype=torch.float64), torch.full((3,), 1 / 3, dtype=torch.float64)
    for step in range(1, 5):
        G = torch.randn(3, 5, dtype=torch.float64, generator=generator)
        losses = torch.rand(3, dtype=torch.float64, generator=generator) + 0.1
        rows = G / G.norm(dim=1, keepdim=True) * losses[:, None]
        y = y - 0.5 / step**0.5 * (y - rows)
        share = torch.softmax(share - 0.1 / step**0.5 * (y @ y.T + 0.1 * torch.eye(3)) @ share, 0)
        assert torch.allclose(aggregator(G, losses), share @ y)


def test_excess_mtl_over_several_steps():
    generator = seeded(3)
    aggregator = ExcessMTL(eta=0.5)
    squares, weights, first = torch.zeros(3, 5, dtype=torch.float64), torch.ones(3, dtype=torch.float64), None
    for _ in range(4):
        G = torch.randn(3, 5, dtype=torch.float64, generator=generator)
        squares = squares + G**2
        excess = (G**2 / (squares + 1e-7).sqrt()).sum(1)
        first = excess if first is None else first
        weights = weights * torch.exp(0.5 * excess / first)
        weights = 3 * weights / weights.sum()
        assert torch.allclose(aggregator(G), weights @ G)
        assert torch.allclose(aggregator.last_weights, weights)
        assert torch.equal(aggregator.head_weights(aggregator.last_weights), aggregator.last_weights)


def test_sdmgrad_wants_three_batches():
    G = torch.randn(3, 4, 6, dtype=torch.float64, generator=seeded(4))
    with pytest.raises(ValueError, match='three independent batches'):
        SDMGrad()(G[0])
    aggregator = SDMGrad(lamda=0.3, lr=0.1)
    update = aggregator(G)
    norms = G.norm(dim=2).mean()
    products = G[0] @ G[1].T / norms**2
    share, speed = torch.full((4,), 0.25, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for _ in range(20):
        speed = 0.5 * speed + products @ share + 0.3 * products.mean(1)
        point = share - 0.1 * speed
        lower, upper = point.min() - 1, point.max()  # projection on the simplex, by bisection
        for _ in range(200):
            middle = (lower + upper) / 2
            lower, upper = (middle, upper) if (point - middle).clamp_min(0).sum() > 1 else (lower, middle)
        share = (point - lower).clamp_min(0)
    assert torch.allclose(update, (share @ G[2] + 0.3 * G[2].mean(0)) / 1.3, atol=1e-9)


def test_moco_goes_on_where_its_weights_lie_on_absent_tasks():
    """Losses of the size of a hundred bring them to a corner of the simplex in one step."""
    aggregator = MoCo(tasks=3)
    G, losses = torch.eye(3), torch.tensor([1.0, 300.0, 310.0])
    aggregator(G, losses)
    assert aggregator.state_dict()['shares'].tolist() == [1.0, 0.0, 0.0]
    update = aggregator(G[1:], losses[1:], task_ids=torch.tensor([1, 2]))
    assert torch.isfinite(update).all()
    assert update.abs().sum() > 0
    assert aggregator.state_dict()['shares'].tolist() == [1.0, 0.0, 0.0], 'the part of the absent task stays'


def test_sdmgrad_goes_on_where_its_weights_lie_on_absent_tasks():
    """The search ends at corners of the simplex; the next batch may lack just those tasks."""
    aggregator = SDMGrad(lamda=0.0, single_batch=True, tasks=3)
    G = torch.tensor([[1.0, 0.0], [0.0, 100.0], [0.0, 90.0]])
    aggregator(G)
    assert aggregator.state_dict()['shares'].tolist() == [1.0, 0.0, 0.0]
    update = aggregator(G[1:], task_ids=torch.tensor([1, 2]))
    alone = SDMGrad(lamda=0.0, single_batch=True, tasks=2)(G[1:])
    assert torch.equal(update, alone)
    assert aggregator.state_dict()['shares'].sum() == 1


def test_sdmgrad_on_one_batch_approaches_the_shortest_vector():
    G = independent(5, num_rows=4)
    aggregator = SDMGrad(lamda=0.0, lr=0.1, iterations=5000, single_batch=True)
    assert torch.allclose(aggregator(G), MGDA()(G), atol=1e-6)


def test_ngdiff_ascends_what_is_to_be_forgotten():
    for number in range(20):
        G = independent(number, num_rows=2, kind='scales')
        update = NGDiff(dict(forget=-1), tasks=['retain', 'forget'])(G)
        assert update @ G[0] >= -1e-12
        assert update @ G[1] <= 1e-12
    by_number = NGDiff([1, -1])
    assert torch.equal(by_number(G), update)
    ids = torch.tensor([1])
    assert torch.allclose(by_number(G[1:], task_ids=ids), -G[1] / G[1].norm())


def test_trivial_sums():
    G = matrix('zero_rows', seeded(3), num_rows=6)
    assert torch.allclose(Sum()(G), G.sum(0))
    live = G[G.norm(dim=1) > 0]
    assert torch.allclose(Mean()(G), live.mean(0))


@pytest.mark.parametrize(
    ('make', 'error', 'words'),
    [
        (lambda: MGDA('l1'), ValueError, 'normaliser must be one of none, l2'),
        (lambda: MGDA(apply_to='all'), ValueError, 'apply_to must be'),
        (lambda: PCGrad('sorted'), ValueError, "order must be 'random' or 'ascending'"),
        (lambda: CAGrad(-1), ValueError, 'c must be finite and >= 0, but got -1'),
        (lambda: CAGrad(rescale=3), ValueError, 'rescale must be 0, 1 or 2'),
        (lambda: FairGrad(0), ValueError, 'FairGrad: alpha must be finite and > 0'),
        (lambda: NashMTL(max_norm=0), ValueError, 'NashMTL: max_norm must be > 0'),
        (lambda: AlignedMTL('max'), ValueError, "scale_mode must be 'min', 'median' or 'rmse'"),
        (lambda: ConicGrad(1), ValueError, 'c must be at least 0 and below 1'),
        (lambda: GradVac(2), ValueError, 'beta must lie between 0 and 1'),
        (lambda: GradVac(order='x'), ValueError, 'order must be'),
        (lambda: GradDrop(1.5), ValueError, 'leak must lie between 0 and 1'),
        (lambda: GradDrop(dict(b=1), tasks=['a']), ValueError, "unknown task 'b'"),
        (lambda: NGDiff(dict(a=2)), ValueError, "sign of 'a' must be 1 or -1"),
        (lambda: NGDiff(dict(forgt=-1), tasks=['forget']), ValueError, "'forgt': did you mean 'forget'"),
        (lambda: NGDiff([1, 1], tasks=3), ValueError, 'there are 3 tasks, but 2 signs'),
        (lambda: DBMTL(1.0), ValueError, 'beta must be at least 0 and below 1'),
        (lambda: DBMTL(beta_sigma=-1), ValueError, 'beta_sigma must be >= 0'),
        (lambda: MoCo(0), ValueError, 'beta must be above 0'),
        (lambda: MoCo(rho=-1), ValueError, 'rho must be >= 0'),
        (lambda: ExcessMTL(-1), ValueError, 'eta must be >= 0'),
        (lambda: SDMGrad(lamda=-1), ValueError, 'lamda must be >= 0'),
        (lambda: Sum()(torch.ones(2, 2).long()), TypeError, 'G must be a float tensor'),
        (lambda: Sum()(torch.ones(2)), ValueError, r'G must be of shape \(K, D\)'),
        (lambda: Sum()(torch.tensor([[1.0], [float('nan')]])), ValueError, r'rows \[1\] are not finite'),
        (
            lambda: call(GradDrop(), torch.tensor([[1.0], [float('inf')]])),
            ValueError,
            r'rows \[1\] of G are not finite',
        ),
        (lambda: Sum().weights(torch.ones(2, 3)), ValueError, r'gram must be of shape \(K, K\)'),
        (lambda: PCGrad()(torch.ones(2, 2)), ValueError, 'pass a seeded torch.Generator'),
        (lambda: DBMTL()(torch.ones(2, 2)), ValueError, 'needs the values of the losses'),
        (lambda: DBMTL()(torch.ones(2, 2), torch.ones(3)), ValueError, 'losses must be 2 finite numbers'),
        (lambda: DBMTL().head_weights(None), ValueError, 'need the losses'),
        (lambda: call(MoCo(tasks=3), torch.ones(2, 2)), ValueError, 'there are 3 tasks, but G has 2 rows'),
        (lambda: call(MoCo(tasks=3), torch.ones(2, 2), task_ids=torch.tensor([0, 3])), ValueError, 'from 0 to 2'),
        (lambda: call(MoCo(tasks=3), torch.ones(2, 2), task_ids=torch.tensor([1, 1])), ValueError, 'different numbers'),
        (lambda: SDMGrad()(torch.ones(2, 2, 2)), ValueError, r'must be of shape \(3, K, D\)'),
        (lambda: Sum().load_state_dict(dict(a=1)), ValueError, 'Sum has no state, but got the entries a'),
        (
            lambda: GradVac(tasks=3).load_state_dict(GradVac(tasks=2).state_dict()),
            ValueError,
            'GradVac: its state is of 2 tasks, but there are 3',
        ),
        (lambda: MoCo().load_state_dict(dict(a=1)), ValueError, 'its state has the entries buffer, shares, count'),
    ],
)
def test_wrong_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_buffer_of_another_length_is_named():
    aggregator = MoCo()
    call(aggregator, torch.ones(2, 3))
    with pytest.raises(ValueError, match='start with a fresh state'):
        call(aggregator, torch.ones(2, 4))
