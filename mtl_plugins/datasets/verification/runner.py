"""Verification of one dataset: its structure first, then all samples, on several processes, under a progress bar."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mtl_plugins.errors import UserRuntimeError

from .base import CheckJob, LayoutCheck, Problem
from .files import reason
from .kinds import make_problem
from .work import JobResult, Stamp, run_job, run_jobs

_CHUNK = 8
_CHUNKS_AHEAD = 4
_LEAST_JOBS_PER_WORKER = 64
"""Starting a worker takes as long as checking about this many samples."""


class VerificationError(UserRuntimeError):
    """The verification itself could not be finished; it says nothing about the dataset."""


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


def default_workers() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


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
    found: dict[str, Stamp] = {}
    num_files = 0
    # Closed here whatever happens, which ends the workers.
    with contextlib.closing(_results(check, extra, samples, content, stamps, workers)) as results:
        for result in _with_progress(results, f'Verify {check.NAME}', len(extra) + len(samples)):
            problems += result.problems
            found.update(result.stamps)
            num_files += result.num_files
    return Verification(_ordered(problems), found, len(samples), num_files, content)


def no_problems(root: Path) -> list[Problem]:
    """The check of files that need none."""
    return []


def _ordered(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Sorted, each once; a missing file counts once whoever names it, and not at all if its folder is missing."""
    folders = tuple(f'{problem.path}/' for problem in problems if problem.kind == 'missing folder')
    once: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        is_missing = problem.kind == 'missing file'
        if not (is_missing and problem.path.startswith(folders)):
            once.setdefault((problem.path, problem.kind if is_missing else problem.problem), problem)
    return tuple(sorted(once.values()))


def _results(
    check: LayoutCheck,
    extra: Sequence[CheckJob],
    samples: Sequence[CheckJob],
    content: bool,
    stamps: bool,
    workers: int,
) -> Generator[JobResult, None, None]:
    workers = min(workers, max(1, len(samples) // _LEAST_JOBS_PER_WORKER))
    yield from (run_job(check.root, job, content, stamps) for job in extra)
    if workers == 1:
        yield from (run_job(check.root, job, content, stamps) for job in samples)
    else:
        yield from _fan_out(check, samples, content, stamps, workers)


def _fan_out(
    check: LayoutCheck, jobs: Sequence[CheckJob], content: bool, stamps: bool, workers: int
) -> Iterator[JobResult]:
    """Results of all jobs in their order; only a few chunks are under way at a time, there may be millions of jobs."""
    with ProcessPoolExecutor(workers, mp_context=_context(check), initializer=_start_worker) as pool:
        try:
            chunks = (jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK))
            submitted = (pool.submit(run_jobs, check.root, chunk, content, stamps) for chunk in chunks)
            waiting: deque[Future] = deque(islice(submitted, workers * _CHUNKS_AHEAD))
            while waiting:
                yield from waiting.popleft().result()
                waiting.extend(islice(submitted, 1))
        except BrokenProcessPool as error:
            raise VerificationError(
                'a process that checked files died, perhaps for lack of memory; try again with --jobs 1'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _context(check: LayoutCheck) -> multiprocessing.context.BaseContext:
    # A fork of this process, in which libraries have started threads, may hang. The fork server imports what the
    # workers need once, and they are forked from it.
    if 'forkserver' not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context('spawn')
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__, type(check).__module__])
    return context


def _start_worker() -> None:
    # Ctrl-C reaches the workers too; only the main process reacts to it, and ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)


def _with_progress(results: Iterator[JobResult], title: str, total: int) -> Iterator[JobResult]:
    console = Console(stderr=True)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('[red]{task.fields[wrong]}'),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    wrong = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, wrong='')
        for result in results:
            wrong += len(result.problems)
            progress.update(task, advance=1, wrong=f'{wrong} problem{"s" * (wrong != 1)}' if wrong else '')
            yield result
