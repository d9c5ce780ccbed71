"""Products of rows, block by block, against those of all rows at once."""

import pytest
import torch

from mtl_plugins.methods.aggregation.rows import gramian


@pytest.mark.parametrize('num_columns', [11, 3 * 2**14 + 5])
@pytest.mark.parametrize('scale', [1.0, 1e-19, 1e19])
@pytest.mark.parametrize('kind', ['independent', 'equal', 'opposite', 'nearly equal', 'zero', 'badly scaled'])
def test_products_are_right_to_float64(kind, scale, num_columns):
    rows = torch.randn(3, num_columns, generator=torch.Generator().manual_seed(0))
    rows[1] = dict(equal=rows[0], opposite=-rows[0], zero=0 * rows[0]).get(kind, rows[1])
    if kind == 'nearly equal':
        rows[1] = rows[0] + 1e-3 * rows[1]
    rows = rows * scale
    if kind == 'badly scaled':
        rows[2] *= 1e-15
    found, wanted = gramian(rows), rows.double() @ rows.double().T
    assert torch.equal(found, found.T)
    assert (found - wanted).abs().max() <= 1e-13 * wanted.abs().max()
    assert torch.equal(found.diagonal() == 0, wanted.diagonal() == 0)


@pytest.mark.parametrize('num_tasks', range(1, 27))
def test_so_they_are_for_any_number_of_tasks(num_tasks):
    draw = torch.Generator().manual_seed(num_tasks)
    rows, others = torch.randn(2, num_tasks, 1001, generator=draw)
    for other in (None, others):
        wanted = rows.double() @ (rows if other is None else other).double().T
        torch.testing.assert_close(gramian(rows, other), wanted, rtol=0, atol=1e-10)
