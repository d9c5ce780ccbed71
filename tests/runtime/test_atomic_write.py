import errno
import os
import resource
import subprocess

import pytest
from mmengine.fileio import get_file_backend

from mtl_plugins.runtime.checkpoints import CheckpointWriteError, atomic_backend, write_atomically

from .safety import fail_writing, names


class TestAtomicWrite:
    def test_content_and_permissions(self, tmp_path):
        data = os.urandom(3 * (1 << 22) + 17)
        get_file_backend(backend_args=dict(backend='mtl_atomic')).put(data, tmp_path / 'deep' / 'a.pth')
        (tmp_path / 'plain').write_bytes(b'')
        assert (tmp_path / 'deep' / 'a.pth').read_bytes() == data
        assert (tmp_path / 'deep' / 'a.pth').stat().st_mode == (tmp_path / 'plain').stat().st_mode
        assert names(tmp_path / 'deep') == ['a.pth']

    def test_disk_full_keeps_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / 'a.pth'
        write_atomically(b'old', path)
        fail_writing(monkeypatch)
        with pytest.raises(CheckpointWriteError) as caught:
            write_atomically(b'x' * 5000, path)
        assert path.read_bytes() == b'old'
        assert names(tmp_path) == ['a.pth']
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.bytes_free > 0
        message = str(caught.value)
        assert str(path) in message
        assert '5,000 bytes are needed' in message
        assert f'{caught.value.bytes_free:,} bytes are free' in message

    def test_real_size_limit(self, tmp_path):
        path = tmp_path / 'a.pth'
        write_atomically(b'old', path)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(CheckpointWriteError, match='File too large'):
                write_atomically(b'x' * 10_000, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == b'old'
        assert names(tmp_path) == ['a.pth']

    def test_damage_on_the_way_to_the_disk_is_found(self, tmp_path, monkeypatch):
        real = os.write

        def flip(descriptor, data):
            return real(descriptor, bytes(data[:-1]) + bytes([data[-1] ^ 1]))

        path = tmp_path / 'a.pth'
        write_atomically(b'old', path)
        monkeypatch.setattr(atomic_backend.os, 'write', flip)
        with pytest.raises(CheckpointWriteError, match='other bytes than were written'):
            write_atomically(b'new', path)
        assert path.read_bytes() == b'old'

    def test_interrupt_leaves_no_partial_file(self, tmp_path, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(atomic_backend.os, 'fsync', interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(b'new', tmp_path / 'a.pth')
        assert names(tmp_path) == []

    @pytest.mark.slow
    def test_full_file_system(self, tmp_path):
        disk = tmp_path / 'disk'
        disk.mkdir()
        command = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(disk)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip('a small file system can only be mounted by root')
        try:
            write_atomically(b'o' * 30_000, disk / 'a.pth')
            with pytest.raises(CheckpointWriteError, match='No space left'):
                write_atomically(b'n' * 60_000, disk / 'a.pth')
            assert (disk / 'a.pth').read_bytes() == b'o' * 30_000
            assert names(disk) == ['a.pth']
        finally:
            subprocess.run(['umount', str(disk)], check=True)
