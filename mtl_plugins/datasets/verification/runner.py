"""Verification of one dataset: its structure first, then all samples, on several processes, under a progress bar."""

import contextlib
import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from mtl_plugins.errors import UserRuntimeError
from mtl_plugins.utils.parallel import in_processes, tracked

from ..files.source import special_file
from .base import CheckJob, LayoutCheck, Problem, make_problem
from .files import reason

_LEAST_JOBS_PER_WORKER = 64
"""Starting a worker takes as long as checking about this many samples."""
_DIGEST_BYTES = 16
# A file that cannot be read does not tell what its values are; only the cause is reported.
_CONSEQUENCES = {
    'wrong format': {'unreadable file', 'values out of range', 'no labelled pixel'},
    'unreadable file': {'wrong size', 'values out of range', 'no labelled pixel'},
}


class VerificationError(UserRuntimeError):
    """The verification itself could not be finished; it says nothing about the dataset."""


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


@dataclass(frozen=True)
class Verification:
    """The outcome of :func:`verify`.

    Attributes:
        problems: All that is wrong, ordered by path; what concerns the dataset as a whole comes first.
        stamps: Size and hash of every file that could be read; empty without hashing.
        num_samples: Number of samples that were looked at.
        num_files: Number of files that belong to the dataset, split files included.
        content: Whether the content of the files was checked.
    """

    problems: tuple[Problem, ...]
    stamps: dict[str, Stamp] = field(default_factory=dict)
    num_samples: int = 0
    num_files: int = 0
    content: bool = True

    @property
    def is_clean(self) -> bool:
        """Whether everything was checked and nothing is wrong."""
        return self.content and self.num_samples > 0 and not self.problems


def verify(check: LayoutCheck, workers: int = 1, content: bool = True, stamps: bool = True) -> Verification:
    """Check a dataset folder. Nothing is written, and the outcome does not depend on ``workers``.

    Args:
        check: The dataset.
        workers: Processes; 1 works in this one. Small datasets get fewer than asked for.
        content: Open the files; False only looks whether they are there.
        stamps: Hash the files.

    Raises:
        ValueError: If ``workers`` is less than 1.
        VerificationError: If a worker process died.
    """
    if workers < 1:
        raise ValueError(f'workers must be 1 or more, but got {workers}')
    problems: list[Problem] = []
    samples: Sequence[CheckJob] = ()
    try:
        problems.extend(check.structure())
        samples = check.jobs()
        if content:
            problems.extend(check.across())
    except (OSError, ValueError, KeyError) as error:
        if not problems:  # otherwise these are the reason
            problems.append(make_problem('unreadable file', '', f'the samples cannot be listed: {reason(error)}'))
    if not samples and not problems:
        problems.append(make_problem('empty split', '', 'there is no sample in the whole dataset'))
    # Split files that are missing are a matter of structure(), hence those that are there.
    extra = [CheckJob((path,), no_problems) for path in check.extra_files() if (check.root / path).is_file()]
    died = VerificationError('a process that checked files died, perhaps for lack of memory; try again with --jobs 1')
    workers = min(workers, max(1, len(samples) // _LEAST_JOBS_PER_WORKER))
    job = functools.partial(run_job, check.root, content=content, stamps=stamps)
    found: dict[str, Stamp] = {}
    num_files = 0
    with contextlib.closing(in_processes(job, chain(extra, samples), workers, died)) as results:
        for result in tracked(results, f'Verify {check.NAME}', len(extra) + len(samples), stderr=True):
            problems += result.problems
            found.update(result.stamps)
            num_files += result.num_files
    return Verification(_ordered(problems), found, len(samples), num_files, content)


def no_problems(root: Path) -> list[Problem]:
    """The check of files that need none."""
    return []


def stamp_file(path: Path) -> Stamp:
    """Read a file and return its size and hash."""
    with open(path, 'rb', buffering=0) as file:
        digest = hashlib.file_digest(file, functools.partial(hashlib.blake2b, digest_size=_DIGEST_BYTES))
        return Stamp(file.tell(), digest.hexdigest())


def run_job(root: Path, job: CheckJob, content: bool = True, stamps: bool = True) -> JobResult:
    """Run one job: are its files there, what are their hashes, is their content right.

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
        # The file of the job that the message names, else the first.
        named = [path for path in job.paths if path in str(error)]
        text = reason(error) if isinstance(error, ValueError | OSError) else f'{type(error).__name__}: {error}'
        return [make_problem('unreadable file', next(iter(named or job.paths), ''), text)]


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


def _ordered(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Sorted, each once; a missing file counts once however many name it, and not at all if its folder is missing."""
    folders = tuple(f'{problem.path}/' for problem in problems if problem.kind == 'missing folder')
    once: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        is_missing = problem.kind == 'missing file'
        if not (is_missing and problem.path.startswith(folders)):
            once.setdefault((problem.path, problem.kind if is_missing else problem.problem), problem)
    return tuple(sorted(once.values()))
