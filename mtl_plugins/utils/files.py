"""Files that appear as a whole or not at all, also in folders that several machines share."""

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from mtl_plugins.errors import UserError

SUFFIX = '.mtl-part'
_MAKER = re.compile(rf'\.(?P<host>\w+)-(?P<pid>\d+)-[0-9a-f]{{8}}{re.escape(SUFFIX)}$')
_ABANDONED_SECONDS = 24 * 3600
"""Nothing that another machine writes takes this long."""
_LONGEST = 150
"""Characters of the name of a file that its temporary name repeats; file systems take 255 bytes."""


def given_path(path: str | os.PathLike, name: str) -> Path:
    """A path that a user gave, with ``~`` expanded as far as that home is known.

    Args:
        path: The path.
        name: What it was given for, for the message.

    Raises:
        UserError: If it is empty, as from a variable that is not set: :class:`~pathlib.Path` takes the current folder;
            or a URL, of which it makes a folder named ``s3:``.
    """
    text = os.fspath(path)
    advice = "write '.' for the current folder" if not text.strip() else '' if '://' not in text else 'copy or mount it'
    if advice:
        raise UserError(f'{name} must be a path, but got {text!r}; {advice}')
    return Path(os.path.expanduser(path))


def path_to_write(path: str | os.PathLike, name: str) -> Path:
    """As :func:`given_path`, for what is written, and read again by libraries that open names in UTF-8 only.

    Raises:
        UserError: If it is no path, or its name is not in UTF-8.
    """
    if any('\ud800' <= letter <= '\udfff' for letter in os.fspath(path)):
        raise UserError(
            f'{name} must be a path in UTF-8, but got {os.fspath(path)!r}; choose another, or set PYTHONUTF8=1 if '
            'it is the locale that has no such letters'
        )
    return given_path(path, name)


def temporary_name(path: Path) -> Path:
    """A hidden name beside ``path`` that no other process, thread or machine uses; it tells who made it."""
    return path.with_name(f'.{path.name[:_LONGEST]}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}')


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Let the body write another file, which then takes the place of ``path``; if the body fails, nothing changes."""
    path = Path(path)
    temporary = temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Write a file by :func:`replacing`; parent folders are made.

    It is not flushed to the disk: that is what :func:`mtl_plugins.runtime.checkpoints.write_atomically` does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def note_of_others(found: Iterable[Path], written: Collection[Path]) -> str:
    """A sentence about files that lie beside those just written; empty if there are none.

    Args:
        found: What lies there now; folders do not count.
        written: What was written.
    """
    others = [path for path in found if path not in written and path.is_file()]
    if not others:
        return ''
    first, count = min(others), len(others)
    return f'{first.parent}: {count} files that were there before are not of this call and stay, such as {first.name}'


def remove_leftovers(folder: str | os.PathLike, every: bool = False, earlier: str = SUFFIX) -> list[Path]:
    """Remove what killed processes left of unfinished :func:`replacing` in ``folder``; returns what was removed.

    Args:
        folder: The folder.
        every: Nobody else writes there, so that all such files are leftovers. Otherwise those are whose process has
            died on this machine, or which another machine has not touched for a day.
        earlier: Ending of such names in earlier versions.
    """
    removed = []
    for path in [path for suffix in {SUFFIX, earlier} for path in Path(folder).glob(f'.*{suffix}')]:
        with contextlib.suppress(OSError):
            if every or _is_left(path):
                path.unlink()
                removed.append(path)
    return removed


def _is_left(path: Path) -> bool:
    maker = _MAKER.search(path.name)
    if maker is None:
        return True
    if maker['host'] != _host():
        return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
    try:
        os.kill(int(maker['pid']), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        pass
    return False


def _host() -> str:
    return re.sub(r'\W', '_', socket.gethostname())[:32] or '_'
