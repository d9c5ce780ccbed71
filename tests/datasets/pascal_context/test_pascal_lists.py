import json

import numpy as np
import pytest
import scipy.io
from exporters.mannequins import to_struct

from mtl_plugins.datasets.files import DerivedCache, UnreadableFileError
from mtl_plugins.datasets.pascal_context import layout
from mtl_plugins.datasets.pascal_context.part_lists import archive_lists, people, read_part_lists, rebuilt_lists
from mtl_plugins.datasets.pascal_context.parts import PartObject


@pytest.fixture
def cache(copy, tmp_path):
    return DerivedCache('pascal', copy, tmp_path / 'cache')


@pytest.mark.parametrize('num_workers', [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize('split', layout.SPLITS)
def test_rebuilt_lists_are_those_of_the_archive(copy, cache, split, num_workers):
    ids = layout.read_ids(copy, split)
    lists = archive_lists(copy, split, ids)
    assert sum(people(lists).values()) > 0
    assert any(-1 in classes for classes in lists.values())
    assert rebuilt_lists(copy, split, ids, cache, num_workers) == lists
    for path in (copy / 'human_parts').iterdir():
        path.write_bytes(b'')  # the folder stays the same: the cache must answer
    assert rebuilt_lists(copy, split, ids, cache) == lists


def test_a_new_annotation_is_noticed(copy, cache):
    ids = layout.read_ids(copy, 'train')
    before = rebuilt_lists(copy, 'train', ids, cache)
    path = copy / 'human_parts' / f'{ids[1]}.mat'
    path.unlink()
    assert set(rebuilt_lists(copy, 'train', ids, cache)) == set(before) - {ids[1]}
    scipy.io.savemat(path, to_struct('a', [PartObject('cat', 8, np.ones((3, 3), bool), ())]))
    assert rebuilt_lists(copy, 'train', ids, cache) == {**before, ids[1]: [8]}


@pytest.mark.parametrize(
    'content', ['', '[]', '{"a": 15}', '{"a": ["person"]}', '{"a": null}', 'not json', b'\xff\xfe\x00']
)
def test_damaged_lists_are_not_used(copy, content):
    path = copy / layout.part_list_file('train')
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r'Parts/train\.txt: expected JSON'):
        read_part_lists(copy, 'train')
    assert archive_lists(copy, 'train', ['a']) is None


def test_lists_about_other_images_are_not_used(copy):
    ids = layout.read_ids(copy, 'train')
    path = copy / layout.part_list_file('train')
    lists = json.loads(path.read_text())
    for changed in ({**lists, '2000_000001': [15]}, {key: lists[key] for key in ids[1:]}, {}):
        path.write_text(json.dumps(changed))
        assert archive_lists(copy, 'train', ids) is None
    path.unlink()
    assert archive_lists(copy, 'train', ids) is None


def test_a_damaged_annotation_stops_the_rebuilding(copy, cache):
    ids = layout.read_ids(copy, 'train')
    (copy / 'human_parts' / f'{ids[1]}.mat').write_bytes(b'damaged')
    with pytest.raises(UnreadableFileError, match=ids[1]):
        rebuilt_lists(copy, 'train', ids, cache)


def test_people():
    assert people({'a': [1, 15], 'b': [-1, 9], 'c': []}) == {'a': True, 'b': False, 'c': False}
