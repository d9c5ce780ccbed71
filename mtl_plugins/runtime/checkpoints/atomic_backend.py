"""Files that are either complete or absent: atomic writes, and the MMEngine file backend built on them."""

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend

from mtl_plugins.errors import UserError
from mtl_plugins.utils.files import replacing

BACKEND_NAME = 'mtl_atomic'
_CHUNK = 1 << 22


class CheckpointWriteError(OSError, UserError):
    """A file could not be written; the target and everything written earlier are untouched.

    Attributes:
        filename (str): The file that was to be written.
        bytes_needed (int): Its size.
        bytes_free (int | None): Free space of its file system, None if that cannot be told.
    """

    def __init__(self, cause: int | None, reason: str, path: Path, bytes_needed: int) -> None:
        try:
            self.bytes_free: int | None = shutil.disk_usage(path.parent).free
        except OSError:
            self.bytes_free = None
        self.bytes_needed = bytes_needed
        self._arguments = (cause, reason, path, bytes_needed)
        free = 'an unknown number of' if self.bytes_free is None else f'{self.bytes_free:,}'
        super().__init__(
            cause,
            f'could not save, {reason}: {bytes_needed:,} bytes are needed and {free} bytes are free. The partial file '
            'was removed and earlier files were kept. Free some space (an own limit or quota can be the cause too), or '
            'choose another work_dir',
            str(path),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments  # for the way to other processes


def write_atomically(data: bytes | memoryview, path: str | Path) -> None:
    """Write a file so that a kill or a power cut leaves either the old file or the complete new one.

    The bytes go to a temporary file in the same folder, are flushed to the disk, read back and compared with ``data``
    (stronger than a checksum, and the original is in memory anyway); then the file is renamed and the folder flushed.

    Args:
        data: Content of the file.
        path: Where to write; parent folders are created.

    Raises:
        CheckpointWriteError: If anything on this way fails (disk full, quota, read-back differs, ...). The temporary
            file is removed first.
    """
    path = Path(path)
    view = memoryview(data).cast('B')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The temporary name starts with a dot and does not end in ``.pth``: nothing that lists checkpoints sees it.
        with replacing(path) as temporary:
            _write_and_flush(view, temporary)
            _compare(view, temporary)
        _flush_folder(path.parent)
    except OSError as error:
        raise CheckpointWriteError(error.errno, error.strerror or str(error), path, view.nbytes) from error


class AtomicLocalBackend(LocalBackend):
    """Local files, written by :func:`write_atomically`; use it by ``backend_args=dict(backend='mtl_atomic')``."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``; see :func:`write_atomically`."""
        write_atomically(obj, filepath)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write the text ``obj`` to ``filepath``; see :func:`write_atomically`."""
        write_atomically(obj.encode(encoding), filepath)


def _write_and_flush(view: memoryview, path: Path) -> None:
    # Not tempfile: its files are readable by the owner only, and the rename would hand that on to the checkpoint.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        written = 0
        while written < view.nbytes:
            written += os.write(descriptor, view[written : written + _CHUNK])
        os.fsync(descriptor)
        if hasattr(os, 'posix_fadvise'):
            # Drop the cached pages, so that the comparison reads what the disk holds and not what we just wrote.
            with contextlib.suppress(OSError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _compare(view: memoryview, path: Path) -> None:
    position = 0
    with open(path, 'rb') as file:
        while chunk := file.read(_CHUNK):
            if chunk != view[position : position + len(chunk)]:
                raise OSError(errno.EIO, f'the disk returned other bytes than were written after byte {position:,}')
            position += len(chunk)
    if position != view.nbytes:
        raise OSError(errno.EIO, f'the disk returned {position:,} of {view.nbytes:,} bytes')


def _flush_folder(folder: Path) -> None:
    # Some file systems cannot flush a folder; the file itself is safe by then.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


register_backend(BACKEND_NAME, AtomicLocalBackend, force=True)
