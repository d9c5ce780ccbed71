"""Work on several processes, and its progress bar."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cv2
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from mmengine.dist import get_rank
from rich.console import Console
from rich.progress import track


def usable_cores() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def tracked(items: Iterable[Any], title: str, total: int, stderr: bool = False) -> Iterator[Any]:
    """``items`` under a progress bar, which the first rank shows in a terminal."""
    console = Console(stderr=stderr)
    first = get_rank() == 0 and os.environ.get('RANK', '0') == '0'
    return iter(track(items, title, total, console=console, disable=not (console.is_terminal and first)))


def in_processes(function: Callable[[Any], Any], items: Iterable[Any], jobs: int, died: Exception) -> Iterator[Any]:
    """``function`` of each of ``items``, in their order; few are under way at a time.

    Args:
        function: Must be picklable where there are several processes.
        items: The arguments.
        jobs: Processes; with 0 or 1 this one works.
        died: Raised if a process dies.
    """
    if jobs <= 1:
        yield from map(function, items)
        return
    # loky starts processes anew: a fork of one in which torch has started threads may hang.
    work = (delayed(_in_worker)(os.path.abspath(os.curdir), function, item) for item in items)
    try:
        with contextlib.closing(Parallel(jobs, 'loky', return_as='generator', max_nbytes=None)(work)) as results:
            yield from results
    except BrokenProcessPool as error:
        raise died from error


def end_workers() -> None:
    """End the processes of :func:`in_processes`, which wait for more work for five minutes."""
    get_reusable_executor(reuse=True).shutdown(wait=True)


def _in_worker(folder: str, function: Callable[[Any], Any], item: Any) -> Any:
    ignore_signals()
    os.chdir(folder)  # a worker may have begun in another one, for a former call
    cv2.setNumThreads(1)
    return function(item)


def ignore_signals() -> None:
    """For worker processes: schedulers and Ctrl-C reach them too, and the main process decides and ends them."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
