"""The work of one job: are its files there, what are their hashes, is their content right. Runs in worker processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtl_plugins.datasets.files.source import special_file

from .base import CheckJob, Problem
from .files import reason
from .kinds import make_problem

_BLOCK = 1 << 20
_DIGEST_BYTES = 16
# Whoever cannot read a file can also not tell what its values are; only the cause is reported.
_CONSEQUENCES = {
    'wrong format': {'unreadable file', 'values out of range', 'no labelled pixel'},
    'unreadable file': {'wrong size', 'values out of range', 'no labelled pixel'},
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What identifies the content of a file: its size in bytes and its hash (blake2b of 16 bytes, hexadecimal)."""

    size: int
    digest: str


@dataclass(frozen=True)
class JobResult:
    """What came out of one job.

    Attributes:
        problems: What is wrong.
        stamps: Size and hash of the files that could be read, if they were asked for.
        num_files: Number of files that should be there.
    """

    problems: tuple[Problem, ...]
    stamps: dict[str, Stamp]
    num_files: int


def stamp_file(path: Path) -> Stamp:
    """Read a file and return its size and hash."""
    digest, size = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0
    with open(path, 'rb', buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return Stamp(size, digest.hexdigest())


def run_jobs(root: Path, jobs: Sequence[CheckJob], content: bool, stamps: bool) -> list[JobResult]:
    """Run several jobs one after the other; see :func:`run_job`."""
    return [run_job(root, job, content, stamps) for job in jobs]


def run_job(root: Path, job: CheckJob, content: bool = True, stamps: bool = True) -> JobResult:
    """Run one job.

    Args:
        root: Folder of the dataset.
        job: The job.
        content: Also check the content of the files, not only that they are there.
        stamps: Hash the files.
    """
    problems: list[Problem] = []
    found: dict[str, Stamp] = {}
    for path in job.paths:
        special = special_file(root / path)
        if special:
            problems.append(make_problem('unreadable file', path, f'expected a file, found {special}'))
            continue
        try:
            if stamps:
                found[path] = stamp_file(root / path)
            elif not (root / path).exists():
                raise FileNotFoundError
        except FileNotFoundError:
            problems.append(make_problem('missing file', path, 'it is listed, but not there'))
        except OSError as error:
            problems.append(make_problem('unreadable file', path, reason(error)))
    if content:
        problems += _check_content(root, job, {problem.path for problem in problems})
    return JobResult(settle(problems), found, len(job.paths))


def _check_content(root: Path, job: CheckJob, already_bad: set[str]) -> list[Problem]:
    try:
        return [problem for problem in job.run(root) if problem.path not in already_bad]
    except Exception as error:  # a damaged file can make a decoder raise nearly anything; it must not end the run
        if already_bad:  # most likely about the file that is missing, which is named anyway
            return []
        path = _file_of(error, job, root)
        text = reason(error) if isinstance(error, ValueError | OSError) else f'{type(error).__name__}: {error}'
        return [make_problem('unreadable file', path, text)]


def _file_of(error: Exception, job: CheckJob, root: Path) -> str:
    """The file of the job that the message names, else the first."""
    text = str(error)
    named = [path for path in job.paths if str(root / path) in text or path in text]
    return named[0] if named else next(iter(job.paths), '')


def settle(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Name each kind of problem once per file, and leave out what is only the consequence of another."""
    by_path: dict[str, dict[str, Problem]] = {}
    for problem in problems:
        by_path.setdefault(problem.path, {}).setdefault(problem.kind, problem)
    kept = []
    for kinds in by_path.values():
        for cause, consequences in _CONSEQUENCES.items():
            if cause in kinds:
                kinds = {kind: problem for kind, problem in kinds.items() if kind not in consequences}
        kept += kinds.values()
    return tuple(kept)
