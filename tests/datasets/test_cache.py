import errno
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest

from mtl_plugins.datasets import cache as cache_module
from mtl_plugins.datasets.cache import CACHE_ENV, CacheError, SampleCache, default_cache_dir, fingerprint
from tests.support.programs import Program


def make(index):
    return {'img': np.full((4, 5, 3), index, np.uint8), 'gt_depth': np.full((4, 5), index + 0.5, np.float32)}


class Counting:
    def __init__(self, stop_at=None, seconds=0.0):
        self.calls, self.stop_at, self.seconds = [], stop_at, seconds

    def __call__(self, index):
        if index == self.stop_at:
            raise KeyboardInterrupt
        time.sleep(self.seconds)
        self.calls.append(index)
        return make(index)


def test_renders_once_and_reads_back(tmp_path):
    cache, render = SampleCache(tmp_path / 'c', 3), Counting()
    assert cache.fill(render, 'test') == 3
    assert cache.fill(render, 'test') == 0
    assert render.calls == [0, 1, 2]
    loaded = cache.load(2, ['gt_depth'])
    assert list(loaded) == ['gt_depth']
    assert loaded['gt_depth'].dtype == np.float32
    np.testing.assert_array_equal(loaded['gt_depth'], make(2)['gt_depth'])


def test_larger_n_adds_only_what_is_missing(tmp_path):
    SampleCache(tmp_path, 2).fill(make, 'test')
    render = Counting()
    assert SampleCache(tmp_path, 4).fill(render, 'test') == 2
    assert render.calls == [2, 3]


def test_goes_on_after_an_interruption(tmp_path):
    cache = SampleCache(tmp_path, 5)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(Counting(stop_at=3), 'test')
    assert cache.missing() == [3, 4]
    render = Counting()
    cache.fill(render, 'test')
    assert render.calls == [3, 4]


def test_deleted_empty_and_temporary_files_are_repaired(tmp_path):
    cache = SampleCache(tmp_path, 4)
    cache.fill(make, 'test')
    cache.path(1).unlink()
    cache.path(3).write_bytes(b'')
    leftover = tmp_path / '.000001.99.tmp'
    leftover.write_bytes(b'half a file')
    render = Counting()
    cache.fill(render, 'test')
    assert render.calls == [1, 3]
    assert not leftover.exists()
    for index in range(4):
        assert cache.load(index, ['img'])['img'].max() == index


def test_killed_process_leaves_only_complete_files(tmp_path):
    code = f"""
        import time, numpy as np
        from mtl_plugins.datasets.cache import SampleCache
        def render(index):
            time.sleep(0.01)
            return dict(img=np.full((64, 64, 3), index, np.uint8))
        SampleCache({str(tmp_path)!r}, 1000).fill(render, 'test')
    """
    cache, deadline = SampleCache(tmp_path, 1000), time.monotonic() + 120
    with Program('-c', code) as program:
        while len(cache.missing()) > 990 and time.monotonic() < deadline:
            time.sleep(0.02)
        program.kill()
        assert program.wait(30) == -signal.SIGKILL
    done = sorted(set(range(1000)) - set(cache.missing()))
    assert 10 <= len(done) < 1000
    for index in done:
        assert cache.load(index, ['img'])['img'].max() == index % 256
    # The dead process's lock does not block anyone.
    small = SampleCache(tmp_path, len(done) + 1)
    assert small.fill(make, 'test') == 1


def test_two_at_once_share_the_work(tmp_path):
    renders = [Counting(seconds=0.02), Counting(seconds=0.02)]
    threads = [threading.Thread(target=SampleCache(tmp_path, 6).fill, args=(render, 'test')) for render in renders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(renders[0].calls + renders[1].calls) == list(range(6))
    assert SampleCache(tmp_path, 6).missing() == []


def test_a_complete_cache_is_only_read(tmp_path, monkeypatch):
    cache = SampleCache(tmp_path, 2)
    cache.fill(make, 'test')
    monkeypatch.setattr(cache_module, 'exclusive', lambda folder: pytest.fail('locked a complete cache'))
    assert cache.fill(make, 'test') == 0


def test_can_be_sent_to_workers(tmp_path):
    cache = SampleCache(tmp_path, 1)
    cache.fill(make, 'test')
    assert pickle.loads(pickle.dumps(cache)).load(0, ['img'])['img'].shape == (4, 5, 3)


@pytest.mark.parametrize('damage', ['truncated', 'garbage', 'flipped', 'pickle'])
def test_unreadable_file_is_named(tmp_path, damage):
    cache = SampleCache(tmp_path, 2)
    cache.fill(make, 'test')
    data = bytearray(cache.path(1).read_bytes())
    if damage == 'pickle':
        np.savez(cache.path(1), img=np.array([{'code': 1}], dtype=object))
    else:
        data[150] ^= 0xFF  # inside of the first array
        cache.path(1).write_bytes({'truncated': data[:200], 'garbage': b'no archive', 'flipped': bytes(data)}[damage])
    with pytest.raises(CacheError, match=r'000001\.npz.*delete this file'):
        cache.load(1, ['img'])
    assert cache.load(0, ['img'])['img'].max() == 0


def test_missing_field_and_missing_file_are_named(tmp_path):
    cache = SampleCache(tmp_path, 2)
    cache.fill(make, 'test')
    with pytest.raises(CacheError, match=r'gt_semseg.*000000\.npz'):
        cache.load(0, ['gt_semseg'])
    cache.path(0).unlink()
    with pytest.raises(CacheError, match=r'000000\.npz is missing'):
        cache.load(0, ['img'])
    with pytest.raises(IndexError, match='holds samples 0 to 1'):
        cache.load(2, ['img'])


def test_folder_that_cannot_be_made_names_the_option(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    cache = SampleCache(tmp_path / 'file' / 'c', 1)
    with pytest.raises(CacheError, match=rf'cache_dir.*{CACHE_ENV}'):
        cache.fill(make, 'test')


def test_full_disk_leaves_no_partial_file(tmp_path, monkeypatch):
    def no_space(file, **arrays):
        file.write(b'some bytes')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(np, 'savez', no_space)
    with pytest.raises(CacheError, match=r'000000\.npz.*No space left.*free space'):
        SampleCache(tmp_path, 1).fill(make, 'test')
    assert [name for name in os.listdir(tmp_path) if name != '.lock'] == []


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match='at least 1'):
        SampleCache(tmp_path, 0)
    with pytest.raises(ValueError, match='num_workers'):
        SampleCache(tmp_path, 1).fill(make, 'test', num_workers=-1)


def test_default_folder_and_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_ENV, str(tmp_path))
    assert default_cache_dir() == tmp_path
    a, b = (SampleCache.create('x', dict(version=v, size=[8, 8]), 1) for v in (1, 2))
    assert a.root != b.root
    assert a.root.parent == tmp_path
    assert fingerprint(dict(a=1, b=2)) == fingerprint(dict(b=2, a=1))
    monkeypatch.delenv(CACHE_ENV)
    assert default_cache_dir().name == 'mtl_plugins'


def test_objects_are_not_stored(tmp_path):
    with pytest.raises(TypeError, match='Python objects are not stored: img'):
        SampleCache(tmp_path, 1).write(0, dict(img=np.array([{}], dtype=object)))
    assert os.listdir(tmp_path) == []
