import cv2
import numpy as np
import pytest

from mtl_plugins.datasets.files import UnreadableFileError
from mtl_plugins.datasets.taskonomy import CODINGS, TASKS, decode, encode
from mtl_plugins.datasets.taskonomy.decoding import dilate, own_holes, read_codes

from . import slow

SIZE = (9, 12)


def random_codes(task, seed=0, size=SIZE):
    """Codes of the whole range, its ends included."""
    coding, rng = CODINGS[task], np.random.default_rng(seed)
    shape = size if coding.stored_channels == 1 else (*size, coding.stored_channels)
    top = 2**coding.bits
    codes = rng.integers(0, top, shape).astype(np.uint16 if coding.bits == 16 else np.uint8)
    codes[0, :3] = np.array([0, top - 1, top // 2]).reshape(3, *[1] * (codes.ndim - 2))
    return codes


def holes(seed=1, size=SIZE):
    return np.random.default_rng(seed).random(size) < 0.25


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('task', TASKS)
def test_equals_the_slow_one(task, masked):
    codes = random_codes(task)
    valid = ~holes() if masked else None
    target = decode(task, codes, valid)
    channels = CODINGS[task].channels
    assert target.dtype == np.float32
    assert target.shape == (SIZE if channels == 1 else (*SIZE, channels))
    np.testing.assert_allclose(target, slow.target(task, codes, valid), rtol=2e-5, atol=2e-5)


def test_blur_at_a_size_where_it_matters():
    codes = random_codes('edge_occlusion', size=(64, 24))
    expected = slow.target('edge_occlusion', codes)
    assert np.abs(decode('edge_occlusion', codes) - (codes / 204.8 - 1)).max() > 10
    np.testing.assert_allclose(decode('edge_occlusion', codes), expected, rtol=1e-4, atol=1e-4)
    valid = ~holes(size=(64, 24))
    expected = slow.target('edge_occlusion', codes, valid)
    np.testing.assert_allclose(decode('edge_occlusion', codes, valid), expected, rtol=1e-4, atol=1e-4)
    blind = decode('edge_occlusion', np.where(valid, codes, 0).astype(np.uint16), valid)
    np.testing.assert_allclose(blind, expected, rtol=1e-4, atol=1e-4, err_msg='codes of holes have no influence')


def test_the_largest_depth_does_not_overflow():
    for task in ('depth_euclidean', 'depth_zbuffer'):
        codes = np.array([[65535, 65534, 512, 0]], np.uint16)
        np.testing.assert_allclose(decode(task, codes)[0], [1, 1, np.log(513) / np.log(65536), 0], atol=2e-6)
        assert decode(task, codes)[0, 0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize('task', TASKS)
def test_encoding_is_the_inverse_up_to_rounding(task):
    codes = random_codes(task, size=(1, 400))  # a single row: next to no blur
    again = encode(task, CODINGS[task].to_target(codes) * unflip(task))
    assert again.dtype == codes.dtype
    channels = CODINGS[task].channels
    kept = codes if codes.ndim == 2 else codes[..., :channels]
    full = slow.FULL.get(task)
    if full is not None and task != 'edge_occlusion':
        kept = np.minimum(kept, np.rint(full))
    if 'depth' in task:
        kept = np.minimum(kept, 65534)  # the largest code means something else
    if task == 'principal_curvature':
        kept = np.maximum(kept, 1)
    again = again if again.ndim == 2 else again[..., :channels]
    assert np.abs(again.astype(int) - kept.astype(int)).max() <= (4 if 'depth' in task else 1)


def unflip(task):
    return np.float32([1, -1, -1]) if task == 'normal' else 1


@pytest.mark.parametrize('task', ['depth_euclidean', 'depth_zbuffer', 'normal', 'principal_curvature'])
def test_what_is_not_known_has_its_own_code(task):
    channels = CODINGS[task].channels
    target = np.full(SIZE if channels == 1 else (*SIZE, channels), 0.5, np.float32)
    hole = holes()
    target[hole] = 0 if task == 'normal' else np.nan
    codes = encode(task, target)
    np.testing.assert_array_equal(own_holes(task, codes), hole)
    expected = dict(depth_euclidean=65535, depth_zbuffer=65535, normal=128, principal_curvature=0)[task]
    assert (codes[hole] == expected).all()
    assert own_holes('edge_texture', codes) is None


def test_dilation():
    for seed, share in ((0, 0.02), (1, 0.2), (2, 0.0)):
        hole = np.random.default_rng(seed).random((23, 17)) < share
        np.testing.assert_array_equal(dilate(hole), slow.dilated(hole))


def write(path, array):
    cv2.imwrite(str(path), array if array.ndim == 2 else np.ascontiguousarray(array[..., ::-1]))
    return str(path)


@pytest.mark.parametrize('task', TASKS)
def test_files_are_read_as_they_are(task, tmp_path):
    codes = random_codes(task)
    np.testing.assert_array_equal(read_codes(task, write(tmp_path / 'a.png', codes)), codes)
    other = np.zeros(SIZE, np.uint8 if CODINGS[task].bits == 16 else np.uint16)
    path = write(tmp_path / 'b.png', other)
    with pytest.raises(UnreadableFileError, match=r'b\.png: expected a'):
        read_codes(task, path)


def test_grey_and_colours_are_both_taken_where_the_papers_leave_it_open(tmp_path):
    codes = random_codes('reshading')
    grey = write(tmp_path / 'grey.png', codes[..., 0])
    colours = write(tmp_path / 'colours.png', codes)
    np.testing.assert_array_equal(read_codes('reshading', grey), np.repeat(codes[..., :1], 3, axis=-1))
    np.testing.assert_array_equal(read_codes('segment_unsup2d', colours), codes[..., 0])
    with_alpha = str(tmp_path / 'alpha.png')
    cv2.imwrite(with_alpha, np.dstack([codes[..., ::-1], np.arange(codes[..., 0].size).reshape(SIZE) % 256]))
    for task in ('reshading', 'normal', 'principal_curvature'):
        np.testing.assert_array_equal(read_codes(task, with_alpha), codes)
