import numpy as np
import pytest

from mtl_plugins.datasets.filters import KEYPOINT_SCALES, keypoint_heatmap, texture_edges, to_grey


def blob(size, sigma, height):
    y, x = np.mgrid[:size, :size] - size // 2
    return height * np.exp(-(x**2 + y**2) / (2 * sigma**2))


def test_grey_of_bytes_and_floats_agree():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_allclose(to_grey(rgb), to_grey(rgb.astype(np.float32) / 255), atol=1e-6)
    assert to_grey(np.full((2, 2, 3), 255, np.uint8)).max() == pytest.approx(1)


@pytest.mark.parametrize('filter_', [texture_edges, keypoint_heatmap])
def test_type_and_range(filter_):
    noise = np.random.default_rng(1).random((24, 31))
    result = filter_(noise)
    assert result.dtype == np.float32
    assert result.shape == (24, 31)
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize('filter_', [texture_edges, keypoint_heatmap])
def test_constant_image_has_no_features(filter_):
    assert filter_(np.full((20, 20), 0.3)).max() < 1e-5


def test_texture_edge_is_at_the_step_and_linear_in_its_height():
    def step(height):
        image = np.zeros((32, 32))
        image[:, 16:] = height
        return texture_edges(image, sigma=2.0, full_contrast=1.0)

    response = step(0.5)
    assert set(response.argmax(1)) <= {15, 16}
    assert response.max() == pytest.approx(0.5, rel=0.05)
    np.testing.assert_allclose(step(0.25), response / 2, atol=1e-6)


@pytest.mark.parametrize('sigma', KEYPOINT_SCALES)
def test_keypoint_peaks_on_blobs_of_every_size(sigma):
    heat = keypoint_heatmap(blob(65, sigma, 0.3), full_contrast=1.0)
    assert np.unravel_index(heat.argmax(), heat.shape) == (32, 32)
    assert heat.max() == pytest.approx(0.3, rel=0.25)
    # A dark blob is as good as a bright one.
    np.testing.assert_allclose(keypoint_heatmap(1 - blob(65, sigma, 0.3), full_contrast=1.0), heat, atol=1e-4)


def test_straight_edges_and_ramps_are_no_keypoints_even_at_the_border():
    image = np.zeros((40, 40))
    image[:, 20:] = 1
    assert keypoint_heatmap(image).max() < 1e-3
    ramp = np.add.outer(np.linspace(0, 0.5, 40), np.linspace(0, 0.5, 40))
    assert keypoint_heatmap(ramp).max() < 1e-2


@pytest.mark.parametrize('filter_', [texture_edges, keypoint_heatmap])
def test_map_of_a_crop_is_the_crop_of_the_map(filter_):
    image = np.random.default_rng(2).random((90, 90))
    np.testing.assert_allclose(filter_(image)[30:60, 30:60], filter_(image[10:80, 10:80])[20:50, 20:50], atol=1e-4)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r'floats in 0\.\.1.*uint8'):
        texture_edges(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r'\(H, W, 3\)'):
        to_grey(np.zeros((4, 4)))
