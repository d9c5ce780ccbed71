"""Reading single files: what is read is what was written, and nothing damaged gets through."""

import io

import cv2
import numpy as np
import pytest
import scipy.io
from PIL import Image

from mtl_plugins.datasets.files import (
    UnreadableFileError,
    normals_from_bytes,
    normals_to_bytes,
    palette,
    read_colours,
    read_indices,
    read_mat,
    read_npy,
    read_png16,
    read_rgb,
)
from mtl_plugins.datasets.files.normals import unit_or_zero


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def colours(rng):
    return rng.integers(0, 256, (9, 13, 3), np.uint8)


@pytest.fixture
def labels(rng):
    return rng.integers(0, 256, (9, 13), np.uint8)


def png(array):
    return cv2.imencode('.png', array)[1].tobytes()


def jpeg(array):
    return cv2.imencode('.jpg', array)[1].tobytes()


def npy(array, **kwargs):
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()


def mat(**content):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content)
    return buffer.getvalue()


def test_images_are_bgr_and_colour_targets_rgb(tmp_path, colours):
    path = tmp_path / 'a.png'
    Image.fromarray(colours).save(path)
    np.testing.assert_array_equal(read_rgb(path), colours[..., ::-1])
    np.testing.assert_array_equal(read_colours(path), colours)
    assert read_colours(path).flags.writeable


def test_jpeg_images_are_turned_upright_and_targets_that_would_have_to_be_are_refused(tmp_path):
    smooth = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8), (9, 9), 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(smooth).save(tmp_path / 'a.jpg', quality=98, subsampling=0, exif=exif)
    image = read_rgb(tmp_path / 'a.jpg')
    assert np.abs(image[..., ::-1].astype(int) - np.rot90(smooth, -1)).mean() < 3
    with pytest.raises(UnreadableFileError, match='EXIF orientation 6; store the target upright'):
        read_colours(tmp_path / 'a.jpg')
    Image.fromarray(smooth).save(tmp_path / 'b.jpg', quality=98, subsampling=0)
    np.testing.assert_array_equal(np.rot90(read_colours(tmp_path / 'b.jpg'), -1), image[..., ::-1])


@pytest.mark.parametrize('colour_table', [False, True])
def test_indices_of_grey_and_palette_images(tmp_path, labels, colour_table):
    image = Image.fromarray(labels)
    if colour_table:
        image = Image.fromarray(labels, 'L')
        image.putpalette(list(np.random.default_rng(2).permutation(768) % 256))
        assert image.mode == 'P'
    image.save(tmp_path / 'a.png')
    result = read_indices(tmp_path / 'a.png')
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, labels)


def test_palette_of_four_bits(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(labels, 'L')
    image.putpalette(list(range(48)))
    image.save(tmp_path / 'a.png', bits=4)
    assert (tmp_path / 'a.png').read_bytes()[24] == 4
    np.testing.assert_array_equal(read_indices(tmp_path / 'a.png'), labels)


def test_png16_keeps_all_bits(tmp_path, rng):
    values = rng.integers(0, 65536, (5, 7)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 65535
    (tmp_path / 'a.png').write_bytes(png(values))
    result = read_png16(tmp_path / 'a.png')
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize('dtype', ['float32', 'float64', '>f4', 'uint8', 'int32', 'bool'])
def test_npy(tmp_path, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    (tmp_path / 'a.npy').write_bytes(npy(array))
    np.testing.assert_array_equal(read_npy(tmp_path / 'a.npy'), array)


def test_mat(tmp_path):
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    (tmp_path / 'a.mat').write_bytes(mat(LabelMap=array, other=array))
    np.testing.assert_array_equal(read_mat(tmp_path / 'a.mat', 'LabelMap'), array)
    (tmp_path / 'b.mat').write_bytes(mat(anno=dict(objects=dict(part='head'))))
    assert read_mat(tmp_path / 'b.mat', 'anno', simplify_cells=True) == {'objects': {'part': 'head'}}


READERS = {
    'rgb': (read_rgb, lambda: png(np.zeros((9, 9, 3), np.uint8))),
    'rgb of a jpeg': (read_rgb, lambda: jpeg(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))),
    'colours': (read_colours, lambda: png(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8))),
    'indices': (read_indices, lambda: png(np.arange(81, dtype=np.uint8).reshape(9, 9))),
    'png16': (read_png16, lambda: png(np.arange(81, dtype=np.uint16).reshape(9, 9))),
    'npy': (read_npy, lambda: npy(np.arange(81.0))),
    'mat': (lambda path: read_mat(path, 'a'), lambda: mat(a=np.arange(500.0))),
}


@pytest.mark.parametrize('name', READERS)
def test_damage_of_every_kind_is_named(tmp_path, name, capfd):
    read, make = READERS[name]
    path, good = tmp_path / 'file', make()
    path.write_bytes(good)
    read(path)
    damaged = {
        'no such file': None,
        'an empty file': b'',
        'Git LFS pointer': b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n',
        'web page': b'<html>not found</html>',
        **{f'cut after {share}': good[: int(len(good) * share)] for share in (0.05, 0.3, 0.6, 0.95)},
        'without its last byte': good[:-1],
    }
    for kind, content in damaged.items():
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UnreadableFileError) as caught:
            read(path)
        message = str(caught.value)
        assert str(path) in message, kind
        assert 'expected ' in message, kind
        assert 'tools/datasets/verify.py' in message, kind
        assert caught.value.expected, kind
        assert caught.value.found, kind
        if kind in ('no such file', 'an empty file'):
            assert kind in message


def test_truncation_is_noticed_even_if_the_decoder_does_not_care(tmp_path, monkeypatch):
    """Some versions of OpenCV return what they could read of a truncated image."""
    good = jpeg(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    (tmp_path / 'a.jpg').write_bytes(good[:-50])
    monkeypatch.setattr(cv2, 'imdecode', lambda data, flags: np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(UnreadableFileError, match='truncated after'):
        read_rgb(tmp_path / 'a.jpg')


def test_bytes_behind_the_end_of_an_image_do_no_harm(tmp_path, colours):
    (tmp_path / 'a.png').write_bytes(png(colours[..., ::-1]) + b'\0' * 100)
    np.testing.assert_array_equal(read_colours(tmp_path / 'a.png'), colours)


@pytest.mark.parametrize(
    ('read', 'content', 'found'),
    [
        (read_indices, png(np.zeros((4, 4), np.uint16)), '16 bits, grey'),
        (read_indices, png(np.zeros((4, 4, 3), np.uint8)), '8 bits, RGB'),
        (read_indices, jpeg(np.zeros((4, 4), np.uint8)), 'a JPEG'),
        (read_png16, png(np.zeros((4, 4), np.uint8)), '8 bits, grey'),
        (read_png16, npy(np.zeros(3)), 'a .npy file'),
        (read_colours, png(np.zeros((4, 4), np.uint8)), '8 bits, grey'),
        (read_colours, png(np.zeros((4, 4, 4), np.uint8)), 'RGB with alpha'),
        (read_colours, png(np.zeros((4, 4, 3), np.uint16)), '16 bits, RGB'),
        (read_colours, jpeg(np.zeros((4, 4), np.uint8)), 'uint8 of shape'),
        (read_npy, npy(np.array([{}]), allow_pickle=True), 'object'),
        (read_npy, npy(np.array(['a'])), 'data type <U1'),
        (read_npy, b'PK\x03\x04', 'unknown content'),
        (lambda path: read_mat(path, 'LabelMap'), mat(a=1, b=2), 'the variables a, b'),
        (lambda path: read_mat(path, 'LabelMap'), b'\x89HDF\r\n\x1a\n' + b'\0' * 600, 'version 7.3'),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, read, content, found):
    (tmp_path / 'file').write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        read(tmp_path / 'file')
    assert found in str(caught.value)


def test_normals_survive_eight_bits(rng):
    normals = rng.normal(size=(40, 50, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals[:3] = 0
    result = normals_from_bytes(normals_to_bytes(normals))
    assert result.dtype == np.float32
    assert not result[:3].any()
    np.testing.assert_allclose(np.linalg.norm(result[3:], axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(result, normals, atol=1.5 / 255)


def test_all_ways_to_store_no_normal_mean_no_normal():
    """127 and 128 are the bytes nearest to zero; black is a vector of length sqrt(3) and hence a direction."""
    colours = np.array([[[127, 127, 127], [128, 127, 128], [128, 128, 128], [0, 0, 0], [255, 127, 127]]], np.uint8)
    result = normals_from_bytes(colours)
    assert (result[0, :3] == 0).all()
    np.testing.assert_allclose(result[0, 3], -1 / np.sqrt(3), atol=1e-6)
    np.testing.assert_allclose(result[0, 4], [1, 0, 0], atol=0.005)


def test_vectors_that_are_no_direction_become_zero():
    vectors = np.array([[[0, 0, 0.4], [np.nan, 1, 0], [np.inf, 0, 0], [1e30, 0, 0], [0, 3, 4]]])
    np.testing.assert_allclose(unit_or_zero(vectors)[0], [[0] * 3, [0] * 3, [0] * 3, [0] * 3, [0, 0.6, 0.8]], atol=1e-6)


def test_palette_colours_differ():
    colours = np.array(palette(60, background=True))
    assert (colours[0] == 0).all()
    distance = np.abs(colours[:, None] - colours[None]).sum(-1)
    assert distance[~np.eye(60, dtype=bool)].min() > 15
    assert palette(5) == palette(40)[:5]
