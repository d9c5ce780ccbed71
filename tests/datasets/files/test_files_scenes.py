"""Rendered rooms for the exporters, and the folders they may write into."""

import json

import numpy as np
import pytest
from exporters.scenes import prepare_export, render_scenes

from mtl_plugins.datasets import RoomsDataset
from mtl_plugins.datasets.files.provenance import read_provenance
from mtl_plugins.datasets.rendering import TASKS

SIZE = (24, 32)
PARAMETERS = dict(dataset='toy', counts=dict(train=2, val=1), size=SIZE)


def test_scenes_are_those_of_rooms_and_share_its_cache(tmp_path):
    scenes = list(render_scenes('val', 2, SIZE, seed=3, cache_dir=tmp_path))
    assert set(scenes[0]) == {'img', *(f'gt_{task}' for task in TASKS)}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')}
    assert len(times) == 2
    rooms = RoomsDataset(
        'val', 2, SIZE, seed=3, cache_dir=tmp_path, pipeline=[dict(type='mtl_plugins.LoadCachedSample')]
    )
    for index, scene in enumerate(scenes):
        np.testing.assert_array_equal(rooms[index]['img'], scene['img'][..., ::-1])
        np.testing.assert_array_equal(rooms[index]['gt_depth'], scene['gt_depth'])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')} == times
    assert not np.array_equal(scenes[0]['img'], scenes[1]['img'])


def test_what_a_folder_holds_is_noted_in_it(tmp_path):
    assert read_provenance(tmp_path) is None
    prepare_export(tmp_path, **PARAMETERS, packaging='x')
    assert read_provenance(tmp_path / 'other', tmp_path) == dict(
        rendered_by='mtl_plugins', format=1, dataset='toy', counts=dict(train=2, val=1), size=[24, 32], packaging='x',
        note='rendered stand-in, not the real data',
    )  # fmt: skip


def test_notes_of_earlier_versions_had_no_remark(tmp_path):
    content = dict(rendered_by='mtl_plugins', format=1, dataset='nyud', counts=dict(train=2, val=1), size=[24, 32])
    (tmp_path / 'fixture.json').write_text(json.dumps(content))
    assert read_provenance(tmp_path) == content | dict(note='not the published data')


@pytest.mark.parametrize('content', ['', '[1]', '{}', json.dumps(dict(rendered_by='mtl_plugins', format=99)), '\xff'])
def test_other_files_of_that_name_say_nothing(tmp_path, content):
    (tmp_path / 'fixture.json').write_bytes(content.encode('latin1'))
    assert read_provenance(tmp_path) is None


def test_an_export_never_goes_into_a_folder_with_other_files(tmp_path):
    root = prepare_export(tmp_path / 'new' / 'folder', **PARAMETERS)
    assert read_provenance(root)['dataset'] == 'toy'
    (root / 'images').mkdir()
    assert prepare_export(root, **PARAMETERS) == root, 'the same export may go on'
    with pytest.raises(FileExistsError, match='not empty'):
        prepare_export(root, **{**PARAMETERS, 'size': (32, 32)})
    (tmp_path / 'real' / 'images').mkdir(parents=True)
    with pytest.raises(FileExistsError, match='Give a new folder'):
        prepare_export(tmp_path / 'real', **PARAMETERS)
    assert [path.name for path in (tmp_path / 'real').iterdir()] == ['images']
    (tmp_path / 'file').write_text('')
    with pytest.raises(FileExistsError, match='it is a file'):
        prepare_export(tmp_path / 'file', **PARAMETERS)


def test_bad_counts_and_sizes(tmp_path):
    with pytest.raises(ValueError, match="counts must be 1 or more, but got 0 for 'val'"):
        prepare_export(tmp_path / 'a', **{**PARAMETERS, 'counts': dict(train=1, val=0)})
    for size in ((8, 32), (32,)):
        with pytest.raises(ValueError, match='size must be'):
            prepare_export(tmp_path / 'a', **{**PARAMETERS, 'size': size})
    assert not (tmp_path / 'a').exists()
