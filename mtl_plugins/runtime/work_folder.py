"""One training at a time in a folder: a lock that names its holder and ends with it, and errors with the path."""

import contextlib
import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mtl_plugins.errors import UserError

LOCK_NAME = 'run.lock'
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
_UNWRITABLE += (errno.EEXIST, errno.EISDIR, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP)
_PATIENCE = 10
"""Looks at a lock, 0.05 s apart, before it counts as taken: another process may just be looking, too."""
_held: dict[str, tuple[int, int]] = {}
"""Lock files of this process: descriptor, and how often it was claimed."""


class FolderInUseError(UserError):
    """Another process is at work in the folder."""


class UnwritableFolderError(OSError, UserError):
    """A folder cannot be written to."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


@contextlib.contextmanager
def claim(folder: str | os.PathLike, name: str = LOCK_NAME, option: str = '--work-dir') -> Iterator[None]:
    """Hold a folder for this process, which may claim it several times; what cannot be written there is named.

    The lock is on the file ``<folder>/run.lock``, which says who holds it (process, host, since when, command). It ends
    with the process, however that ends; data workers do not inherit it. Where the file system has no locks, a warning
    says so. In a job of several processes, the first one claims.

    Args:
        folder: The folder; it is made, and goes again if it stays empty.
        name: Name of the lock file.
        option: What to choose another folder by, for messages.

    Raises:
        FolderInUseError: If another process holds it.
        UnwritableFolderError: If nothing can be written there, now or inside of the ``with`` block.
    """
    with naming(folder, option):
        path = Path(folder)
        made = [each for each in (path, *path.parents) if not each.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # as in /proc, where no folder can be made
            raise UnwritableFolderError(
                f'the folder {path} cannot be made ({error.strerror}); choose another one by {option}', error.errno
            ) from error
        key = str(path.resolve() / name)
        _acquire(key, path, option)
    try:
        with naming(folder, option):
            yield
    finally:
        _release(key)
        with contextlib.suppress(OSError):  # what was refused before anything was written leaves no empty folders
            for each in made:
                each.rmdir()


@contextlib.contextmanager
def naming(folder: str | os.PathLike, option: str = '--work-dir') -> Iterator[None]:
    """Around what writes into a folder: a full disk, a read-only file system and the like become one sentence.

    Raises:
        UnwritableFolderError: If that happened; it names the file where that is known, else the folder.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, UserError) or error.errno not in _UNWRITABLE:
            raise
        # An error at a file elsewhere, such as unreadable data, is another matter.
        named = None if error.filename is None else Path(os.fsdecode(error.filename)).absolute()
        inside = named is None or named.is_relative_to(Path(folder).absolute())
        if not inside and not Path(folder).absolute().is_relative_to(named):
            raise
        raise UnwritableFolderError(
            f'cannot write to {named or Path(folder)} ({error.strerror or error}). Free some space or give the right '
            f'to write there, or choose another folder by {option}',
            error.errno,
        ) from error


def holder(folder: str | os.PathLike, name: str = LOCK_NAME) -> str:
    """Who holds a folder, in words; empty if no other process does."""
    path = Path(folder).resolve() / name
    if str(path) in _held:
        return ''
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ''
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return ''
    except BlockingIOError:
        return _in_words(path)
    except OSError:
        return ''
    finally:
        os.close(descriptor)


def _acquire(key: str, folder: Path, option: str) -> None:
    if key in _held:
        descriptor, count = _held[key]
        _held[key] = (descriptor, count + 1)
        return
    looks = 0
    while True:
        descriptor = os.open(key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            looks += 1
            if looks < _PATIENCE:
                time.sleep(0.05)
                continue
            raise FolderInUseError(
                f'{folder} is in use by {_in_words(Path(key))}. Two processes would mix their files: wait until it has '
                f'ended, stop it, or choose another folder by {option}'
            ) from None
        except OSError as error:
            print_log(f'{folder} cannot be locked ({error}): let no second process work there.', level=30)
        if _is_the_file(descriptor, key):
            break
        os.close(descriptor)  # the former holder removed the file in between
    _held[key] = (descriptor, 1)
    try:
        _sign(descriptor)
    except OSError:
        _release(key)
        raise


def _release(key: str) -> None:
    descriptor, count = _held.get(key, (-1, 0))
    if count > 1:
        _held[key] = (descriptor, count - 1)
    elif count == 1:
        del _held[key]
        with contextlib.suppress(OSError):
            os.unlink(key)
        os.close(descriptor)


def _is_the_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    content = dict(
        pid=os.getpid(),
        host=socket.gethostname(),
        since=time.strftime('%Y-%m-%d %H:%M:%S'),
        command=shlex.join(getattr(sys, 'orig_argv', None) or [sys.executable, *sys.argv]),
    )
    text = json.dumps(content, indent=1).encode()
    os.ftruncate(descriptor, 0)
    written = os.write(descriptor, text)
    os.fsync(descriptor)
    if written < len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _in_words(path: Path) -> str:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        return (
            f'process {content["pid"]} on {content["host"]} since {content["since"]} ({str(content["command"])[:300]})'
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 'another process'


def _forget() -> None:
    """In a forked process: its copies of the descriptors would keep the locks after the end of the holder."""
    for descriptor, _ in _held.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
