import math

import numpy as np
import pytest
from scipy import ndimage

from mtl_plugins.evaluation.edges import suppress_non_maxima
from mtl_plugins.evaluation.edges.nms import edge_normals

from .edge_maps import photo_pair


def _at(values, y, x):
    """Value with indices outside mirrored, the border pixel included."""
    height, width = values.shape
    y, x = y % (2 * height), x % (2 * width)
    return values[2 * height - 1 - y if y >= height else y, 2 * width - 1 - x if x >= width else x]


def _derivative(values, axis):
    result = np.zeros_like(values)
    n = values.shape[axis]
    take = [np.take(values, i, axis) for i in range(n)]
    for i in range(n):
        before, after = max(i - 1, 0), min(i + 1, n - 1)
        line = (take[after] - take[before]) / (after - before)
        if axis == 0:
            result[i] = line
        else:
            result[:, i] = line
    return result


def _slow(score):
    """The reader of datasets' released evaluation, pixel by pixel."""
    score = score.astype(float)
    height, width = score.shape
    weights = {d: (5 - abs(d)) / 25 for d in range(-4, 5)}
    smooth = np.zeros_like(score)
    for y in range(height):
        for x in range(width):
            smooth[y, x] = sum(
                a * b * _at(score, y + dy, x + dx) for dy, a in weights.items() for dx, b in weights.items()
            )
    dx, dy = _derivative(smooth, 1), _derivative(smooth, 0)
    dxx, dxy, dyy = _derivative(dx, 1), _derivative(dx, 0), _derivative(dy, 0)
    result = score.copy()
    for y in range(height):
        for x in range(width):
            angle = math.atan(dyy[y, x] * np.sign(-dxy[y, x]) / (dxx[y, x] + 1e-5)) % math.pi
            for side in (-1, 1):
                py = min(max(y + side * math.sin(angle), 0), height - 1.001)
                px = min(max(x + side * math.cos(angle), 0), width - 1.001)
                a, b = int(py), int(px)
                v, u = py - a, px - b
                value = (
                    (1 - v) * (1 - u) * score[a, b] + (1 - v) * u * score[a, b + 1]
                    + v * (1 - u) * score[a + 1, b] + v * u * score[a + 1, b + 1]
                )  # fmt: skip
                if 1.01 * score[y, x] < value:
                    result[y, x] = 0
    reach = min(5, height // 2, width // 2)
    for step in range(reach):
        for line in (np.s_[step], np.s_[height - 1 - step], np.s_[:, step], np.s_[:, width - 1 - step]):
            result[line] *= step / reach
    return result


@pytest.mark.parametrize('size', [(2, 2), (2, 9), (9, 3), (12, 17), (24, 31)])
@pytest.mark.parametrize('smoothness', [0, 1.5])
def test_equals_the_slow_way(size, smoothness):
    rng = np.random.default_rng(sum(size))
    score = ndimage.gaussian_filter(rng.random(size), smoothness)
    score[rng.random(size) < 0.2] = 0
    np.testing.assert_allclose(suppress_non_maxima(score), _slow(score), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize('size', [(1, 1), (1, 8), (7, 1), (0, 4)])
def test_lines_of_pixels_have_no_direction(size):
    result = suppress_non_maxima(np.ones(size))
    assert result.shape == size
    assert np.isfinite(result).all()


@pytest.mark.parametrize('angle', [5, 30, 45, 90, 120])
def test_a_ridge_becomes_its_crest(angle):
    y, x = np.mgrid[-30:31, -30:31]
    across = y * math.cos(math.radians(angle)) - x * math.sin(math.radians(angle))
    result = suppress_non_maxima(np.exp(-((across / 3) ** 2)))
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(across[inner][result[inner] > 0]).max() < 1.5
    assert (result[inner] > 0.8).sum() >= 40


def test_directions_are_across():
    _, x = np.mgrid[-20:21, -20:21]
    vertical = edge_normals(np.exp(-((x / 3.0) ** 2)))[15:-15, 18:23]
    assert np.abs(np.sin(vertical)).max() < 0.1, 'a vertical line is crossed horizontally'


def test_a_perfectly_even_horizontal_edge_is_left_to_thinning():
    """The formula needs a mixed derivative, however small; the released reader has the same gap."""
    y, _ = np.mgrid[-20:21, -20:21]
    score = np.exp(-((y / 3.0) ** 2))
    np.testing.assert_array_equal(suppress_non_maxima(score)[5:-5, 5:-5], score[5:-5, 5:-5])
    np.testing.assert_allclose(suppress_non_maxima(score), _slow(score))


def test_borders_fade():
    result = suppress_non_maxima(np.ones((20, 30)))
    np.testing.assert_allclose(result[10, :6], [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(result[10, -6:], [1, 0.8, 0.6, 0.4, 0.2, 0])
    np.testing.assert_allclose(result[:6, 15], [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert result[1, 1] == pytest.approx(0.04)


def test_input_is_not_changed():
    score = np.random.default_rng(0).random((20, 20))
    before = score.copy()
    suppress_non_maxima(score)
    np.testing.assert_array_equal(score, before)


def test_equals_the_compiled_program():
    nms = pytest.importorskip('pyEdgeEval._lib.nms', reason="the extra 'edges' is not installed")
    _, score = photo_pair('coffee.png', 'gradient')
    theirs = nms.nms(score.astype(float), edge_normals(score), 1, 5, 1.01)
    np.testing.assert_allclose(suppress_non_maxima(score), theirs, rtol=1e-6, atol=1e-12)
