"""The cache of derived data: right values, atomic, resumable, shared by processes, outside of the dataset."""

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mtl_plugins.datasets.cache import CACHE_ENV, CacheError
from mtl_plugins.datasets.files import DerivedCache
from tests.support.programs import Program, run_together


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'data').mkdir()
    return tmp_path / 'data'


@pytest.fixture
def cache(tmp_path, root):
    return DerivedCache('toy', root, tmp_path / 'cache')


def test_every_format_gives_back_what_was_built(cache):
    edges = np.random.default_rng(0).integers(0, 2, (7, 9), np.uint8)
    assert cache.get('a/b/index.json', lambda: {'x': (1, 2)}) == {'x': [1, 2]}
    np.testing.assert_array_equal(cache.get('edges/1.png', lambda: edges), edges)
    arrays = cache.get('all.npz', lambda: dict(a=np.arange(3), b=np.ones((2, 2), np.float32)))
    assert list(arrays) == ['a', 'b']
    assert arrays['b'].dtype == np.float32

    def never():
        pytest.fail('built again')

    assert cache.get('a/b/index.json', never) == {'x': [1, 2]}
    np.testing.assert_array_equal(cache.get('edges/1.png', never), edges)
    np.testing.assert_array_equal(cache.get('all.npz', never)['a'], np.arange(3))
    assert sorted(path.name for path in cache.folder.rglob('*') if path.is_file()) == ['1.png', 'all.npz', 'index.json']


def test_folder_depends_on_the_data_set_and_the_version(tmp_path, root):
    folders = {
        DerivedCache('toy', root, tmp_path).folder,
        DerivedCache('toy', root, tmp_path, version=2).folder,
        DerivedCache('toy', tmp_path, tmp_path).folder,
        DerivedCache('other', root, tmp_path).folder,
    }
    assert len(folders) == 4
    assert DerivedCache('toy', root, tmp_path).folder in folders
    assert all(folder.parent == tmp_path / 'derived' for folder in folders)
    before = DerivedCache('toy', root, tmp_path).folder
    os.utime(root, ns=(1, 1))  # other content was unpacked to the same place
    assert DerivedCache('toy', root, tmp_path).folder != before


def test_default_folder(monkeypatch, tmp_path, root):
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / 'elsewhere'))
    assert DerivedCache('toy', root).folder.is_relative_to(tmp_path / 'elsewhere')


@pytest.mark.parametrize('key', ['a.png', 'a.json', 'a.npz'])
@pytest.mark.parametrize('damage', [b'', b'\x89PNG', b'{"x":'])
def test_damaged_entries_are_built_anew(cache, key, damage):
    value = {'a.png': np.eye(3, dtype=np.uint8), 'a.json': [1], 'a.npz': dict(a=np.arange(2))}[key]
    first = cache.get(key, lambda: value)
    cache.path(key).write_bytes(damage)
    again = cache.get(key, lambda: value)
    assert str(first) == str(again)
    assert cache.path(key).read_bytes() != damage


@pytest.mark.parametrize('key', ['../a.png', '/a.png', 'a.txt', 'a'])
def test_keys_stay_inside(cache, key):
    with pytest.raises(ValueError, match='key of derived data'):
        cache.get(key, dict)


def test_maps_are_bytes(cache):
    with pytest.raises(TypeError, match=r'\(H, W\) uint8.*float64 of shape \(3, 3\)'):
        cache.get('a.png', lambda: np.eye(3))
    with pytest.raises(TypeError, match='but got list'):
        cache.get('a.png', lambda: [1])


def test_a_failing_build_leaves_nothing_behind(cache):
    with pytest.raises(ZeroDivisionError):
        cache.get('a.json', lambda: 1 / 0)
    assert not cache.folder.exists() or not list(cache.folder.rglob('*.json*'))


def test_fill_goes_on_after_an_interruption(cache):
    keys, built = [f'd/{number}.json' for number in range(6)], []

    def build(key):
        if len(built) == 3:
            raise KeyboardInterrupt
        built.append(key)
        return key

    with pytest.raises(KeyboardInterrupt):
        cache.fill(keys, build, 'toy')
    assert built == keys[:3]
    built.clear()
    assert cache.fill(keys, lambda key: built.append(key) or key, 'toy') == 3
    assert built == keys[3:]
    assert cache.fill(keys, lambda key: pytest.fail('built again'), 'toy') == 0
    assert cache.get(keys[5], lambda: 1 / 0) == keys[5]


def test_unwritable_folder_names_the_way_out(tmp_path, root):
    (tmp_path / 'file').write_text('')
    cache = DerivedCache('toy', root, tmp_path / 'file')
    with pytest.raises(CacheError, match=f'cache_dir.*{CACHE_ENV}'):
        cache.get('a.json', dict)
    with pytest.raises(CacheError, match=f'cache_dir.*{CACHE_ENV}'):
        cache.fill(['a.json'], str, 'toy')


def test_is_small_and_can_be_pickled(cache):
    assert len(pickle.dumps(cache)) < 1000
    assert pickle.loads(pickle.dumps(cache)).folder == cache.folder


def test_threads_may_ask_for_one_entry_at_once(cache):
    started = threading.Barrier(8)

    def build():
        started.wait(timeout=30)  # all of them find it missing
        return list(range(1000))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: cache.get('a.json', build), range(8)))
    assert results == [list(range(1000))] * 8
    assert [path.name for path in cache.folder.iterdir()] == ['a.json']


SCRIPT = """
    import sys, time
    from pathlib import Path
    from mtl_plugins.datasets.files import DerivedCache

    root, cache_dir, log = sys.argv[1:]

    def build(key):
        time.sleep(0.05)
        with open(log, 'a') as file:
            file.write(key + '\\n')
        return [key]

    cache = DerivedCache('toy', root, cache_dir)
    keys = [f'{number}.json' for number in range(8)]
    cache.fill(keys, build, 'toy')
    assert [cache.get(key, lambda: 1 / 0) for key in keys] == [[key] for key in keys]
"""


def test_two_processes_share_the_work(tmp_path, root):
    log = tmp_path / 'log'
    run_together([Program('-c', SCRIPT, root, tmp_path / 'cache', log) for _ in range(2)], timeout=120)
    assert sorted(log.read_text().split()) == sorted(f'{number}.json' for number in range(8)), 'each built once'
    assert not list((tmp_path / 'cache').rglob('*.tmp'))


def build_key(key):
    return [key]


@pytest.mark.slow
def test_several_building_processes(cache):
    keys = [f'{number}.json' for number in range(5)]
    assert cache.fill(keys, build_key, 'toy', num_workers=2) == 5
    assert cache.get('3.json', lambda: 1 / 0) == ['3.json']
