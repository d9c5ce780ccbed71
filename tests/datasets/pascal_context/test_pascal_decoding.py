import numpy as np
import pytest
import scipy.io
from exporters.pascal_context import CONTEXT_IDS, write_palette_png
from PIL import Image
from skimage.morphology import thin

from mtl_plugins.datasets.files import UnreadableFileError, read_indices
from mtl_plugins.datasets.pascal_context import classes
from mtl_plugins.datasets.pascal_context.decoding import (
    label_borders,
    label_edges,
    mask_normals,
    read_label_map,
)
from mtl_plugins.datasets.pascal_context.reader import read_normals, read_saliency, read_semseg

from . import slow

# Worked out from the class tables of the released loader: names that both have, but "unknown", and tvmonitor.
WITH_NORMALS = """
3 4 6 9 10 11 13 15 17 18 22 23 29 30 33 34 36 37 38 39 41 43 46 49 50 51 53 55 56 59 61 62 65 66 68 69 72 73 78 83 84
85 87 88 95 96 101 104 105 107 111 113 115 122 124 135 141 142 143 146 150 154 157 158 159 165 172 174 181 183 184 191
193 195 197 199 202 213 215 216 219 220 223 225 228 230 232 233 238 239 242 243 246 250 251 252 255 260 261 263 269
272 273 275 281 283 284 285 286 287 288 290 291 292 293 295 304 307 309 310 314 315 319 323 329 330 331 336 342 345
349 350 351 352 355 357 368 370 371 374 379 380 383 384 397 401 403 405 407 408 411 412 413 414 417 419 421 423 427
429 430 432 440 441 442 443 444 446 454 457
"""


def voronoi(rng, size, count=8, ids=460):
    """A map of irregular regions."""
    centres = rng.random((count, 2)) * size
    rows, columns = np.mgrid[: size[0], : size[1]]
    nearest = np.argmin((rows[..., None] - centres[:, 0]) ** 2 + (columns[..., None] - centres[:, 1]) ** 2, -1)
    return rng.integers(0, ids, count)[nearest].astype(np.uint16)


@pytest.mark.parametrize('seed', range(6))
def test_the_slow_thinning_is_that_of_the_released_loaders(seed):
    rng = np.random.default_rng(seed)
    for share in (0.2, 0.5, 0.9, 1.0):
        mask = rng.random((30, 41)) < share
        np.testing.assert_array_equal(slow.thinned(mask), thin(mask))


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('size', [(24, 31), (2, 9)])
def test_edges_equal_the_slow_ones(seed, size):
    labels = voronoi(np.random.default_rng(seed), size)
    edges = label_edges(labels)
    assert edges.dtype == np.uint8
    np.testing.assert_array_equal(edges, slow.thinned(slow.laplacian_edges(labels)))


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('size', [(24, 31), (2, 9), (1, 1)])
def test_borders_equal_the_slow_ones(seed, size):
    labels = voronoi(np.random.default_rng(seed), size)
    expected = np.zeros(size, bool)
    for y in range(size[0]):
        for x in range(size[1]):
            others = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [labels[at] for at in others if at[0] < size[0] and at[1] < size[1]]
            expected[y, x] = any(label != labels[y, x] for label in inside)
    borders = label_borders(labels)
    assert borders.dtype == np.uint8
    np.testing.assert_array_equal(borders, slow.thinned(expected))


def test_edges_of_one_class_and_the_peculiarity_of_the_laplacian():
    assert not label_edges(np.full((9, 9), 459, np.uint16)).any()
    stairs = np.repeat(np.array([[1, 2, 3]], np.uint16), 9, axis=0)
    assert not label_edges(np.repeat(stairs[:, 1:2], 3, 1)).any()
    assert not slow.laplacian_edges(stairs)[:, 1].any()
    np.testing.assert_array_equal(label_edges(stairs), slow.thinned(slow.laplacian_edges(stairs)))


def test_edges_work_for_all_integer_types():
    labels = voronoi(np.random.default_rng(0), (20, 20), ids=200)
    for dtype in (np.uint8, np.int16, np.int32, np.int64):
        np.testing.assert_array_equal(label_edges(labels.astype(dtype)), label_edges(labels))


def test_normals_are_masked_pixel_by_pixel():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 460, (30, 40)).astype(np.uint16)
    normals = rng.normal(size=(30, 40, 3)).astype(np.float32)
    expected = normals.copy()
    for row in range(30):
        for column in range(40):
            if int(labels[row, column]) not in classes.NORMALS_CLASSES:
                expected[row, column] = 0
    np.testing.assert_array_equal(mask_normals(normals, labels), expected)
    assert 0.2 < np.mean(expected.any(-1)) < 0.6


def test_the_classes_with_normals():
    ids = list(classes.NORMALS_CLASSES)
    assert ids == [int(identifier) for identifier in WITH_NORMALS.split()]
    assert len(ids) == len(set(classes.NORMALS_CLASSES.values())) == 170
    names = set(classes.NORMALS_CLASSES.values())
    assert {'wall', 'floor', 'ceiling', 'person', 'car', 'cat', 'dog', 'bicycle', 'tvmonitor'} <= names
    assert not {'sky', 'grass', 'horse', 'road', 'unknown'} & names
    assert 0 not in classes.NORMALS_CLASSES
    for name, identifier in CONTEXT_IDS.items():
        expected = {'lamp': 'light'}.get(name, name)
        assert classes.NORMALS_CLASSES.get(identifier, 'ornament') == expected


def test_class_tables():
    assert len(classes.SEMSEG) == 21
    assert classes.PERSON == 15
    assert len(classes.PART_IDS) == 24
    assert sorted(set(classes.PART_IDS.values())) == [1, 2, 3, 4, 5, 6]
    assert classes.PART_IDS['neck'] == 2
    assert classes.PART_IDS['lhand'] == 4
    assert classes.PART_IDS['rfoot'] == 6
    palette = classes.voc_palette(256)
    assert palette[15] == [192, 128, 128]
    assert palette[20] == [0, 64, 128]
    assert palette[255] == [224, 224, 192]


def test_saliency_is_cut_at_one_half_and_comes_back(tmp_path):
    def saliency_from_bytes(values):
        Image.fromarray(values).save(tmp_path / 'a.png')
        return read_saliency(tmp_path / 'a.png')

    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = [[1 if value / 255 > 0.5 else 0 for value in row] for row in values]
    np.testing.assert_array_equal(saliency_from_bytes(values), expected)
    target = np.random.default_rng(0).integers(0, 2, (5, 6)).astype(np.uint8)
    np.testing.assert_array_equal(saliency_from_bytes(target * np.uint8(255)), target)
    np.testing.assert_array_equal(saliency_from_bytes(target), target)
    with pytest.raises(UnreadableFileError, match='0, 1 and 255'):
        saliency_from_bytes(np.array([[0, 1], [255, 1]], np.uint8))


def test_a_palette_is_no_colour(tmp_path):
    labels = np.array([[0, 15], [20, 255]], np.uint8)
    write_palette_png(tmp_path / 'a.png', labels)
    with Image.open(tmp_path / 'a.png') as image:
        assert image.mode == 'P'
        assert np.array(image.convert('RGB'))[0, 1].tolist() == [192, 128, 128]
    np.testing.assert_array_equal(read_indices(tmp_path / 'a.png'), labels)
    np.testing.assert_array_equal(read_semseg(tmp_path / 'a.png'), labels)
    write_palette_png(tmp_path / 'b.png', np.array([[0, 21]], np.uint8))
    with pytest.raises(UnreadableFileError, match=r'b\.png.*0\.\.20 or 255.*21'):
        read_semseg(tmp_path / 'b.png')


@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.float64])
def test_a_label_map_of_any_number_type(tmp_path, dtype):
    labels = np.array([[0, 459], [284, 1]], dtype)
    scipy.io.savemat(tmp_path / 'a.mat', {'LabelMap': labels})
    read = read_label_map(tmp_path / 'a.mat')
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize(
    'content',
    [
        {'LabelMap': np.array([[460]], np.uint16)},
        {'LabelMap': np.array([[-1]], np.int16)},
        {'LabelMap': np.array([[np.nan]])},
        {'LabelMap': np.zeros((2, 2, 2), np.uint16)},
        {'LabelMap': np.zeros((0, 0))},
        {'LabelMap': 'text'},
        {'other': np.zeros((2, 2))},
    ],
)
def test_no_label_map(tmp_path, content):
    scipy.io.savemat(tmp_path / 'a.mat', content)
    with pytest.raises(UnreadableFileError, match=r'a\.mat.*LabelMap'):
        read_label_map(tmp_path / 'a.mat')


def test_normals_and_label_map_of_different_sizes(tmp_path):
    Image.fromarray(np.full((4, 8, 3), (128, 128, 255), np.uint8)).save(tmp_path / 'n.png')
    scipy.io.savemat(tmp_path / 'l.mat', {'LabelMap': np.array([[440, 0]], np.uint16)})
    normals = read_normals(tmp_path / 'n.png', tmp_path / 'l.mat')
    np.testing.assert_allclose(normals[:, :4], np.broadcast_to([0, 0, 1], (4, 4, 3)), atol=0.01)
    assert not normals[:, 4:].any()
