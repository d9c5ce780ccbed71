"""Many problems solved at once, against each solved by itself."""

import numpy as np
import pytest
import torch

from mtl_plugins.methods.aggregation import GradVac
from mtl_plugins.methods.aggregation.pcgrad import partner_orders
from mtl_plugins.methods.solvers import cone_projections, dual_cone_weights, root, unit_gramian


def rows(kind, num_rows, seed):
    random = np.random.default_rng(seed)
    width = dict(wide=4 * num_rows, square=num_rows, dependent=max(num_rows // 3, 1)).get(kind, 2 * num_rows)
    G = random.standard_normal((num_rows, width)) * 10 ** random.uniform(-6, 6, (num_rows, 1))
    if kind == 'opposite':
        G[1::2] = -G[: 2 * (num_rows // 2) : 2] * 3
    if kind == 'nearly opposite':
        G[1] = -G[0] + 1e-6 * np.abs(G[0]).max() * random.standard_normal(width)
    if kind == 'rank 1':
        G = np.outer(random.standard_normal(num_rows), G[0])
    if kind == 'agreeing':
        G = np.abs(G)
    return G


KINDS = ('wide', 'square', 'dependent', 'opposite', 'nearly opposite', 'rank 1', 'agreeing')


@pytest.mark.parametrize('kind', KINDS)
def test_projections_on_the_cone_are_those_of_the_active_set(kind):
    for num_rows in (2, 12, 13, 40):
        for seed in range(2):
            unit, _ = unit_gramian(np.einsum('ik,jk->ij', *2 * [rows(kind, num_rows, seed)]))
            columns, found = root(unit), cone_projections(unit)
            assert (found >= 0).all()
            for target, weights in zip(np.eye(num_rows), found):
                if np.all(unit @ target >= 0):
                    assert not weights.any()
                    continue
                # Weights of dependent rows are not unique, the projection is.
                expected = columns @ (target + dual_cone_weights(columns, target))
                assert np.linalg.norm(columns @ (target + weights) - expected) <= 1e-8


@pytest.mark.parametrize('kind', KINDS[:4])
def test_a_vaccine_is_that_of_pairs_one_by_one(kind):
    num_rows, limit, beta = 20, 1 - 1e-8, 0.3
    gram = np.einsum('ik,jk->ij', *2 * [rows(kind, num_rows, 0)])
    unit, norms = unit_gramian(gram)
    method, targets = GradVac(beta=beta, tasks=num_rows), np.zeros((num_rows, num_rows))
    draws, same = (torch.Generator().manual_seed(3) for _ in range(2))
    for _ in range(2):
        found = method.weights(torch.from_numpy(gram), generator=draws).numpy()
        parts = np.eye(num_rows)
        for i, partners in enumerate(partner_orders(num_rows, same)):
            for j in partners:
                length = np.sqrt(max(parts[i] @ unit @ parts[i], 0))
                if length <= 1e-12:
                    continue
                cosine = np.clip(parts[i] @ unit[j] / length, -limit, limit)
                target = np.clip(targets[i, j], -limit, limit)
                if cosine < target:
                    parts[i, j] += length * (target * np.sqrt((1 - cosine**2) / (1 - target**2)) - cosine)
                targets[i, j] = (1 - beta) * targets[i, j] + beta * cosine
        expected = norms @ parts / norms
        step, miss = (root(unit) @ (each * norms) for each in (expected, found - expected))
        assert np.linalg.norm(miss) <= 1e-7 * np.linalg.norm(step)
