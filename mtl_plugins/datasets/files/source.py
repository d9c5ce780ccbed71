"""Getting at the bytes of a file of a dataset, and the error that says why that, or its content, is no good."""

import os
import stat
from typing import NoReturn

from mtl_plugins.errors import UserError

PNG, JPEG = b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff'
UNREADABLE, WRONG_FORMAT, OUT_OF_RANGE = 'unreadable file', 'wrong format', 'values out of range'
"""Kinds of problems, as ``tools/datasets/verify.py`` calls them."""
_CHANGE = 'Change the file, or restore it if it was altered; tools/datasets/verify.py lists all such files'
_WAYS_OUT = {
    UNREADABLE: (
        'Restore the file from the archive (or load the dataset with allow_missing=True after removing it); '
        'tools/datasets/verify.py lists all damaged files'
    ),
    WRONG_FORMAT: _CHANGE,
    OUT_OF_RANGE: _CHANGE,
}
_SPECIAL = (
    (stat.S_ISDIR, 'a folder'),
    (stat.S_ISFIFO, 'a named pipe (FIFO)'),
    (stat.S_ISSOCK, 'a socket'),
    (stat.S_ISCHR, 'a device'),
    (stat.S_ISBLK, 'a device'),
)
_BEGINNINGS = (
    (PNG, 'a PNG'),
    (JPEG, 'a JPEG'),
    (b'II*\x00', 'a TIFF'),
    (b'MM\x00*', 'a TIFF'),
    (b'RIFF', 'a WebP'),
    (b'BM', 'a BMP'),
    (b'\x93NUMPY', 'a .npy file'),
    (b'MATLAB', 'a MATLAB file'),
    (b'version https://git-lfs', 'a Git LFS pointer instead of the file'),
    (b'<', 'a web page or XML'),
    (b'\xff\xfe', 'text in UTF-16'),
    (b'\xfe\xff', 'text in UTF-16'),
)


class UnreadableFileError(UserError):
    """A file of a dataset is missing, damaged or of another kind than it should be; the message names it.

    Attributes:
        expected: What the file should be; empty if unknown.
        found: What it is.
        kind: Kind of the problem for ``tools/datasets/verify.py``.
    """

    expected: str = ''
    found: str = ''
    kind: str = UNREADABLE


class PictureError(UserError):
    """A picture cannot be used; the message says what the file is instead, without its name.

    Args:
        found: What was found.
        kind: See :class:`UnreadableFileError`.
    """

    def __init__(self, found: str, kind: str = WRONG_FORMAT) -> None:
        super().__init__(found)
        self.kind = kind


def fail(path: str | os.PathLike, expected: str, found: str, kind: str = UNREADABLE) -> NoReturn:
    """Raise :class:`UnreadableFileError` for ``path``."""
    error = UnreadableFileError(f'{os.fspath(path)}: expected {expected}, but found {found}. {_WAYS_OUT[kind]}')
    error.expected, error.found, error.kind = expected, found, kind
    raise error


def special_file(path: str | os.PathLike) -> str:
    """What is at ``path`` if it is neither a file nor absent; reading a pipe or a device may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return ''
    return next((f'{name} instead of a file' for is_kind, name in _SPECIAL if is_kind(mode)), '')


def read_bytes(path: str | os.PathLike, expected: str) -> bytes:
    """The content of a file.

    Raises:
        UnreadableFileError: If it is missing, empty, no regular file, or cannot be read.
    """
    special = special_file(path)
    if special:
        fail(path, expected, special)
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except FileNotFoundError:
        fail(path, expected, 'no such file')
    except OSError as error:
        fail(path, expected, f'that it cannot be read ({error})')
    if not data:
        fail(path, expected, 'an empty file')
    return data


def read_text(path: str | os.PathLike, expected: str) -> str:
    """The content of a text file in UTF-8, without the mark (BOM) that some editors put in front.

    Raises:
        FileNotFoundError: If it is missing.
        UnreadableFileError: If it is no regular file or no such text.
    """
    special = special_file(path)
    if special:
        fail(path, expected, special)
    with open(path, 'rb') as file:
        data = file.read()
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        found = kind_of(data) if data[:2] in (b'\xff\xfe', b'\xfe\xff') else f'bytes that are no UTF-8 ({error.reason})'
        fail(path, f'{expected} in UTF-8', f'{found}; save it as UTF-8')
    # Zeros at the end are what a crash of the machine leaves of a file; they make unknown names, which others report.
    if '\0' in text.rstrip('\0'):
        fail(path, f'{expected} in UTF-8', 'zero bytes, as in binary files and in UTF-16')
    return text


def kind_of(data: bytes) -> str:
    """What the first bytes of a file say that it is."""
    for begin, name in _BEGINNINGS:
        if data.startswith(begin):
            return name
    return f'unknown content (first bytes {data[:8]!r})'
