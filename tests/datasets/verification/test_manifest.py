import json
import os
from pathlib import Path

import pytest

from mtl_plugins.datasets.verification import Manifest, ManifestError, load_manifest, save_manifest
from mtl_plugins.datasets.verification.manifest import compare, default_manifest_path
from mtl_plugins.datasets.verification.runner import Stamp

FILES = {f'a/{name}.png': Stamp(len(name), name * 3) for name in ('x', 'yy', 'ü "z"')}


def test_a_manifest_survives_the_disk(tmp_path):
    path = tmp_path / 'some/where.json'
    save_manifest(path, Manifest('tiny', FILES))
    assert load_manifest(path, 'tiny') == Manifest('tiny', FILES)
    assert set(json.loads(path.read_text())) == {'version', 'dataset', 'hash', 'files'}
    assert load_manifest(tmp_path / 'none.json', 'tiny') is None
    save_manifest(path, Manifest('tiny', {}))
    assert load_manifest(path, 'tiny').stamps == {}
    assert [entry.name for entry in path.parent.iterdir()] == ['where.json']


def test_differences_are_sorted_into_changed_gone_and_new():
    old = Manifest('tiny', FILES | {'gone': Stamp(1, 'g'), 'bad': Stamp(2, 'b')})
    changes = compare(old, FILES | {'a/x.png': Stamp(1, 'other'), 'new': Stamp(3, 'n')}, already_bad={'bad'})
    assert (changes.changed, changes.gone, changes.new) == (('a/x.png',), ('gone',), ('new',))
    assert [(item.path, item.kind) for item in changes.problems()] == [
        ('a/x.png', 'changed file'),
        ('gone', 'gone file'),
    ]


@pytest.mark.parametrize(
    'content',
    ['{"version": 1, "dat', '[]', '{}', '{"version": 1, "dataset": "tiny", "hash": "blake2b-16", "files": {"a": 3}}'],
)
def test_a_damaged_manifest_is_named(tmp_path, content):
    path = tmp_path / 'm.json'
    path.write_text(content)
    with pytest.raises(ManifestError, match=r'm\.json.*(--manifest|damaged)'):
        load_manifest(path, 'tiny')


def test_the_manifest_of_another_dataset_is_refused(tmp_path):
    save_manifest(tmp_path / 'm.json', Manifest('other', FILES))
    with pytest.raises(ManifestError, match="dataset 'tiny'"):
        load_manifest(tmp_path / 'm.json', 'tiny')


def test_a_failed_or_interrupted_write_leaves_the_old_manifest(tmp_path, monkeypatch):
    path = tmp_path / 'm.json'
    save_manifest(path, Manifest('tiny', FILES))
    for error in (OSError('disk full'), KeyboardInterrupt()):

        def stop(*args, error=error):
            raise error

        monkeypatch.setattr(os, 'fsync', stop)
        with pytest.raises((ManifestError, KeyboardInterrupt)):
            save_manifest(path, Manifest('tiny', {}))
    assert load_manifest(path, 'tiny').stamps == FILES
    assert list(tmp_path.iterdir()) == [path]


def test_each_folder_has_a_manifest_of_its_own_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MTL_PLUGINS_CACHE', str(tmp_path / 'cache'))
    one, two = default_manifest_path('tiny', Path('a')), default_manifest_path('tiny', Path('b'))
    assert one != two
    assert one == default_manifest_path('tiny', Path('b/../a'))
    assert one.parent == tmp_path / 'cache/manifests'
