"""The kinds of problems all datasets share, each with what to do about it."""

from __future__ import annotations

from .base import Problem

_TAKE_AGAIN = 'extract it from the archive again; if it stays so, download the archive again and compare its checksum'

REMEDIES = {
    'wrong folder': 'give the folder of the dataset itself or the one above it, and check the name of the dataset; '
    'docs/data_preparation.md shows how the folder must look',
    'missing folder': 'extract the archive again, or download that part; it can be left out if no config of yours uses '
    'the task',
    'missing file': _TAKE_AGAIN,
    'unreadable file': f'the file is damaged or not what its name says: {_TAKE_AGAIN}',
    'wrong size': f'the file is not the original one, perhaps a resized copy: {_TAKE_AGAIN}',
    'wrong format': f'the file was converted or re-saved by some program: {_TAKE_AGAIN}',
    'values out of range': f'the labels are of another dataset or version, or were converted: {_TAKE_AGAIN}',
    'no labelled pixel': f'the file gives nothing to train on or to evaluate: {_TAKE_AGAIN}',
    'empty split': 'take the split file from the archive again, it lists no sample',
    'wrong count': 'take the split file from the archive again; results on other splits cannot be compared with papers',
    'duplicate ids': 'take the split file from the archive again, it lists a sample more than once',
    'unknown ids': 'take the split file from the archive again, it lists samples whose files do not exist',
    'missing domain': 'download this domain for all buildings, or leave the task out',
    'missing view': 'download the domain of this building again, or use the loader with allow_missing=True',
}
"""Kind of problem -> what to do. Prefer these over new kinds, so that the reports of all datasets read alike."""


def make_problem(kind: str, path: str, detail: str, remedy: str | None = None) -> Problem:
    """A problem of one of the shared kinds.

    Args:
        kind: A key of :data:`REMEDIES`; any other text needs a ``remedy``.
        path: File or folder relative to the root, ``''`` for the dataset as a whole.
        detail: What was expected and what was found.
        remedy: What to do, if not what :data:`REMEDIES` says.

    Raises:
        KeyError: If the kind is not known and there is no remedy.
    """
    return Problem(path, f'{kind}: {detail}', REMEDIES[kind] if remedy is None else remedy)
