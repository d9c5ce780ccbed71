import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import euler_number
from skimage.morphology import thin

from mtl_plugins.evaluation import thinned
from tests.evaluation.edge_maps import PHOTOS, photo_pair


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 70))))
@settings(max_examples=150, deadline=None)
def test_equals_scikit_image(edges):
    np.testing.assert_array_equal(thinned(edges), thin(edges))


@pytest.mark.parametrize('width', [1, 2, 63, 64, 65, 127, 128, 129, 200])
def test_equals_scikit_image_at_the_ends_of_words(width):
    rng = np.random.default_rng(width)
    for density in (0.2, 0.5, 0.8, 1.0):
        edges = rng.random((40, width)) < density
        edges[:, -1] = edges[-1] = True
        np.testing.assert_array_equal(thinned(edges), thin(edges))


def test_equals_scikit_image_for_every_neighbourhood():
    for bits in range(256):
        edges = np.zeros((5, 5), dtype=bool)
        ring = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]
        edges[2, 2] = True
        for bit, (y, x) in enumerate(ring):
            edges[1 + y, 1 + x] = bits >> bit & 1
        np.testing.assert_array_equal(thinned(edges), thin(edges), err_msg=f'{bits:08b}')


@pytest.mark.parametrize('name', PHOTOS[:2])
def test_equals_scikit_image_on_photographs(name):
    _, score = photo_pair(name, 'gradient')
    for threshold in (0.1, 0.4):
        np.testing.assert_array_equal(thinned(score >= threshold), thin(score >= threshold))


def test_a_bar_becomes_a_line_and_a_disc_almost_a_point():
    bar = np.zeros((9, 40), dtype=bool)
    bar[3:6, 5:35] = True
    line = thinned(bar)
    assert set(np.nonzero(line)[0]) == {4}
    assert line.sum() > 25
    y, x = np.mgrid[-10:11, -10:11]
    assert 1 <= thinned(y**2 + x**2 <= 64).sum() <= 4


def test_what_hangs_together_stays_together_and_holes_stay_holes():
    y, x = np.mgrid[-20:21, -20:21]
    ring = (y**2 + x**2 <= 225) & (y**2 + x**2 >= 64)
    thin_ring = thinned(ring)
    assert euler_number(thin_ring, connectivity=2) == 0
    assert 50 < thin_ring.sum() < 100
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.normal(size=(60, 90)), 2) > 0
    assert euler_number(thinned(blobs), connectivity=2) == euler_number(blobs, connectivity=2)


def test_only_removes_and_is_final():
    edges = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(50, 70)), 1.5) > 0
    once = thinned(edges)
    assert not (once & ~edges).any()
    np.testing.assert_array_equal(thinned(once), once)


def test_a_thin_line_is_left_alone():
    edges = np.eye(30, dtype=bool)
    np.testing.assert_array_equal(thinned(edges), edges)


def test_stacks_and_other_types():
    rng = np.random.default_rng(2)
    stack = rng.integers(0, 2, (2, 3, 20, 30)).astype(np.uint8) * 7
    result = thinned(stack)
    assert result.dtype == bool
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(result[index], thin(stack[index] > 0))


@pytest.mark.parametrize('shape', [(0, 5), (5, 0), (4, 4), (0, 4, 4)])
def test_nothing_to_thin(shape):
    result = thinned(np.zeros(shape))
    assert result.shape == shape
    assert not result.any()


def test_the_input_is_not_changed():
    edges = np.ones((10, 10), dtype=bool)
    thinned(edges)
    assert edges.all()


def test_needs_a_map():
    with pytest.raises(ValueError, match=r'map \(H, W\).*\(5,\)'):
        thinned(np.ones(5))
