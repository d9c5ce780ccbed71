import numpy as np
import pytest
import scipy.io
from exporters.mannequins import to_struct

from mtl_plugins.datasets.files import UnreadableFileError
from mtl_plugins.datasets.human_parts import ignored_without_parts
from mtl_plugins.datasets.pascal_context.classes import PART_IDS, PERSON
from mtl_plugins.datasets.pascal_context.parts import (
    Part,
    PartObject,
    class_list,
    objects_of,
    paint_parts,
    read_objects,
    read_part_map,
)

from . import slow

SIZE = (20, 30)


def random_objects(rng, count, size=SIZE, kinds=(PERSON, PERSON, 9)):
    """Objects whose parts overlap each other, with and without parts."""
    objects = []
    for _ in range(count):
        kind = int(rng.choice(kinds))
        names = rng.choice(list(PART_IDS), rng.integers(0, 6)) if kind == PERSON else ['frontal', 'tail']
        parts = [Part(str(name), rng.random(size) < 0.3) for name in names]
        objects.append(PartObject('person' if kind == PERSON else 'chair', kind, rng.random(size) < 0.5, tuple(parts)))
    return objects


def save(path, objects, compressed=True):
    scipy.io.savemat(path, to_struct(path.stem, objects), do_compression=compressed)
    return path


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert (one.name, one.class_index, len(one.parts)) == (other.name, other.class_index, len(other.parts))
        np.testing.assert_array_equal(one.mask, other.mask)
        for part, same in zip(one.parts, other.parts):
            assert part.name == same.name
            np.testing.assert_array_equal(part.mask, same.mask)


@pytest.mark.parametrize('count', [0, 1, 2, 5])
@pytest.mark.parametrize('simplify', [False, True])
def test_structs_round_trip_however_they_are_read(tmp_path, count, simplify):
    for seed in range(4):
        objects = random_objects(np.random.default_rng(seed), count)
        path = save(tmp_path / f'{seed}.mat', objects, compressed=bool(seed % 2))
        assert_same(read_objects(path), objects)
        assert_same(objects_of(scipy.io.loadmat(path, simplify_cells=simplify)['anno']), objects)


@pytest.mark.parametrize('options', [dict(squeeze_me=True), dict(squeeze_me=True, chars_as_strings=True)])
def test_structs_that_were_squeezed(tmp_path, options):
    objects = random_objects(np.random.default_rng(3), 1, kinds=(PERSON,))
    path = save(tmp_path / 'a.mat', objects)
    assert_same(objects_of(scipy.io.loadmat(path, **options)['anno']), objects)


def test_one_object_with_one_part_and_one_without(tmp_path):
    mask = np.eye(6, dtype=bool)
    for parts in ((), (Part('hair', mask),)):
        path = save(tmp_path / 'a.mat', [PartObject('person', PERSON, mask, parts)])
        (found,) = read_objects(path)
        assert [part.name for part in found.parts] == [part.name for part in parts]


def test_class_ids_as_matlab_stores_them(tmp_path):
    struct = to_struct('a', [PartObject('person', PERSON, np.ones((2, 2), bool), ())])
    struct['anno']['objects'][0, 0]['class_ind'][0, 0] = np.array([[15.0]])  # double, the default of MATLAB
    scipy.io.savemat(tmp_path / 'a.mat', struct)
    assert read_objects(tmp_path / 'a.mat')[0].class_index == 15


def test_fields_are_found_by_position_too(tmp_path):
    mask = np.ones((2, 2), np.uint8)
    parts = np.array([('head', mask)], dtype=[('n', object), ('m', object)])
    objects = np.array([('person', 15, mask, parts)], dtype=[(name, object) for name in 'abcd'])
    anno = np.empty((1, 1), dtype=[('x', object), ('y', object)])
    anno['x'][0, 0], anno['y'][0, 0] = 'a', objects
    scipy.io.savemat(tmp_path / 'a.mat', {'anno': anno})
    assert read_part_map(tmp_path / 'a.mat').tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize('seed', range(8))
def test_painting_equals_the_slow_one_with_overlaps(tmp_path, seed):
    objects = random_objects(np.random.default_rng(seed), 1 + seed % 4)
    expected = slow.painted(objects, PART_IDS, PERSON, SIZE)
    painted = paint_parts(objects)
    if painted is None:
        assert not any(item.parts for item in objects if item.class_index == PERSON)
    else:
        np.testing.assert_array_equal(painted, expected)
    stored = read_part_map(save(tmp_path / 'a.mat', objects))
    assert (stored is None) == (painted is None)
    if painted is not None:
        np.testing.assert_array_equal(stored, painted)


def test_the_order_of_the_file_decides():
    whole, half = np.ones((2, 2), bool), np.array([[1, 0], [1, 0]], bool)
    first = PartObject('person', PERSON, whole, (Part('torso', whole), Part('luarm', half)))
    second = PartObject('person', PERSON, whole, (Part('luarm', half), Part('torso', whole)))
    assert paint_parts([first]).tolist() == [[3, 2], [3, 2]]
    assert paint_parts([second]).tolist() == [[2, 2], [2, 2]]
    assert paint_parts([first, second]).tolist() == [[2, 2], [2, 2]]


def test_nobody():
    mask = np.ones((2, 2), bool)
    assert paint_parts([]) is None
    assert paint_parts([PartObject('person', PERSON, mask, ())]) is None
    assert paint_parts([PartObject('cat', 8, mask, (Part('head', mask),))]) is None


@pytest.mark.parametrize('values', [[0, 0], [0, 255], [255, 255], [0, 3], [255, 1]])
def test_a_map_without_parts_says_nothing(values):
    target = ignored_without_parts(np.array([values], np.uint8))
    nothing = all(value in (0, 255) for value in values)
    assert target.tolist() == [[255, 255] if nothing else values]


def test_class_list_marks_empty_masks():
    full, empty = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    objects = [PartObject('person', 15, full, ()), PartObject('cat', 8, empty, ()), PartObject('person', 15, empty, ())]
    assert class_list(objects) == [15, -1, -1]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'other': np.zeros(3)}, 'anno'),
        ({'anno': np.zeros((3, 3))}, 'struct'),
        ({'anno': np.zeros((0, 0))}, 'found 0'),
        ({'anno': {'imname': 'a', 'objects': np.ones(3)}}, 'struct'),
        ({'anno': {'imname': 'a', 'objects': {'class': 'x', 'class_ind': 'y', 'mask': np.eye(2), 'parts': []}}}, "'y'"),
        ({'anno': {'imname': 'a', 'objects': {'class': 'x', 'class_ind': 1.5, 'mask': np.eye(2), 'parts': []}}}, '1.5'),
        ({'anno': {'imname': 'a', 'objects': {'class': 'x', 'class_ind': 1, 'mask': 'm', 'parts': []}}}, 'mask'),
        ({'anno': {'imname': 'a', 'objects': {'class': 'x'}}}, 'structure'),
        ({'anno': {'imname': 'a'}}, 'structure'),
    ],
)
def test_other_structures_are_named(tmp_path, content, message):
    scipy.io.savemat(tmp_path / 'a.mat', content)
    with pytest.raises(UnreadableFileError, match=rf'a\.mat.*{message}'):
        read_objects(tmp_path / 'a.mat')


def test_parts_that_cannot_be_painted_are_named(tmp_path):
    mask = np.ones((2, 2), bool)
    save(tmp_path / 'a.mat', [PartObject('person', PERSON, mask, (Part('wing', mask),))])
    with pytest.raises(UnreadableFileError, match=r"a\.mat.*'wing'"):
        read_part_map(tmp_path / 'a.mat')
    save(tmp_path / 'a.mat', [PartObject('person', PERSON, mask, (Part('head', mask[:0, :0]),))])
    with pytest.raises(UnreadableFileError, match=r"a\.mat.*'head' of a person has no pixels"):
        read_part_map(tmp_path / 'a.mat')
    parts = (Part('head', mask), Part('torso', np.ones((3, 2), bool)))
    save(tmp_path / 'b.mat', [PartObject('person', PERSON, mask, parts)])
    with pytest.raises(UnreadableFileError, match=r'b\.mat.*different sizes'):
        read_part_map(tmp_path / 'b.mat')


def test_a_truncated_annotation_is_named(tmp_path):
    path = save(tmp_path / 'a.mat', random_objects(np.random.default_rng(0), 3))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnreadableFileError, match=r'a\.mat'):
        read_objects(path)
