"""Finding a dataset's folder and its files, gently on network storage."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mmengine.logging import print_log

from mtl_plugins.errors import UserFileNotFoundError
from mtl_plugins.utils.files import given_path

from .source import read_text


class FolderNotFoundError(UserFileNotFoundError):
    """There is no such dataset where it was looked for.

    Args:
        finding: What was looked for, and what is there instead.
        advice: What to try.
    """

    def __init__(self, finding: str, advice: str = '') -> None:
        super().__init__(f'{finding}. {advice}' if advice else finding)
        self.finding = finding


def find_folder(
    data_root: str | os.PathLike,
    names: Sequence[str],
    looks_right: Callable[[Path], bool],
    looked_for: str,
    verify: str,
) -> Path:
    """The folder of a dataset, given itself or its parent.

    Args:
        data_root: What the user gave.
        names: Names that the archives give the folder, tried below ``data_root``.
        looks_right: Whether a folder is the dataset's, from a look at a few names in it.
        looked_for: What ``looks_right`` wants, for the message: ``'the folder gt_sets with train.txt'``.
        verify: Name of the dataset for ``tools/datasets/verify.py``, ``module:Class`` of a check of the user's own.

    Raises:
        FolderNotFoundError: If there is no such folder; the message says what was looked for and what to try.
    """
    given = given_path(data_root, 'data_root')
    candidates = [given, *(given / name for name in names)]
    for candidate in candidates:
        if candidate.is_dir() and looks_right(candidate):
            return candidate
    state = 'is there' if given.is_dir() else 'does not exist'
    inside = sorted(entry.name for entry in os.scandir(given))[:8] if given.is_dir() else []
    found = f' and holds {", ".join(inside) if inside else "nothing"}' if given.is_dir() else ''
    advice = 'Give the unpacked folder or its parent by data_root (--data-root on the command line)'
    if ':' not in verify:  # a dataset that comes with this package
        advice += (
            '; docs/data_preparation.md says where to get it; '
            f'python tools/datasets/verify.py {verify} FOLDER says what is wrong with a folder; and '
            f'python tools/datasets/export_rooms.py {verify} FOLDER writes a small rendered stand-in to try things out'
        )
    raise FolderNotFoundError(
        f'no {verify} dataset at data_root={os.fspath(data_root)!r} ({given.absolute()} {state}{found}). Looked for '
        f'{looked_for} in {", ".join(str(candidate) for candidate in candidates)}',
        advice,
    )


def read_lines(path: str | os.PathLike) -> list[str]:
    """The non-empty lines of a text file without surrounding blanks, whatever its line ends (LF, CRLF or lone CR).

    Lines that occur more than once are told.

    Raises:
        FileNotFoundError: If it is missing.
        UnreadableFileError: If it is no text in UTF-8.
    """
    lines = read_text(path, 'a list of lines').replace('\r\n', '\n').replace('\r', '\n').split('\n')
    lines = [line.strip() for line in lines if line.strip()]
    twice = [line for line, count in Counter(lines).items() if count > 1]
    if twice:
        print_log(
            f'{os.fspath(path)}: {len(twice)} lines occur more than once, for example {twice[0]!r}; a sample that is '
            'listed twice counts twice',
            logger='current',
            level=30,
        )
    return lines


def missing_files(paths: Iterable[str]) -> set[str]:
    """Those of ``paths`` that do not exist.

    Each folder is listed once; on network storage that is much faster than asking for every file.
    """
    listings: dict[str, frozenset[str]] = {}
    missing = set()
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _names(folder)
        if name not in listings[folder]:
            missing.add(path)
    return missing


def _names(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder or '.') as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
