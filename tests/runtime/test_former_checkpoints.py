"""Checkpoints of version 0.1.0, as it was before its settings were stored in them, are resumed from exactly."""

import tarfile
from pathlib import Path

import pytest
import torch

from .former import CASES, STOP, run

ARCHIVE = Path(__file__).parents[1] / 'data' / 'checkpoints_0.1.0.tar.xz'
"""``<case>/iter_4.pth`` and the weights at the end of the same run, ``<case>/final.pth``."""


@pytest.fixture(scope='module')
def former(tmp_path_factory):
    folder = tmp_path_factory.mktemp('former')
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter='data')
    return folder


@pytest.mark.parametrize('case', CASES)
def test_they_go_on_as_the_version_that_wrote_them(former, tmp_path, case):
    start = former / case / f'iter_{STOP}.pth'
    assert 'mtl_settings' not in torch.load(start, weights_only=True)['meta']
    found, expected = run(case, tmp_path, start), torch.load(former / case / 'final.pth', weights_only=True)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Where a state is not restored, the weights differ by some thousandths.
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
