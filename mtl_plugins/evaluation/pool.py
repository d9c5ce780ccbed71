"""Work on single images in other processes while the evaluation goes on."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from mmengine.logging import print_log

from mtl_plugins.utils.parallel import usable_cores

MAX_WORKERS = 8
_AHEAD = 4


def default_workers() -> int:
    """Return for how many more processes there are cores, at most 8; the ranks of a node share its cores."""
    cores = usable_cores()
    ranks = max(int(os.environ.get('LOCAL_WORLD_SIZE', '1')), 1)
    return min(cores // ranks - 1, MAX_WORKERS) if cores > ranks else 0


class Job:
    """A call whose result is computed elsewhere, see :meth:`WorkPool.submit`."""

    def __init__(self, function: Callable, args: tuple, future: Future | None) -> None:
        self._call: tuple[Callable, tuple] | None = (function, args)
        self._future = future
        self._value: Any = None

    def result(self) -> Any:
        """Wait for the result and return it.

        Should the process have died, the call is made here. What the call raises is raised.
        """
        if self._call is not None:
            function, args = self._call
            try:
                self._value = function(*args) if self._future is None else self._future.result()
            except BrokenProcessPool:
                self._value = function(*args)
            self._call = self._future = None  # the arguments are let go
        return self._value


class WorkPool:
    """A few processes that work through calls, with a limit to how many wait.

    The processes start with the first call and end with :meth:`close`, with the pool, or when this process is gone,
    even by SIGKILL. Ctrl-C and the user signals that announce a preemption are left to this process. Should a worker
    die, all further calls are made in this process, so that results never depend on the workers.

    Args:
        num_workers: Number of processes; 0 makes each call in this process, right away.
        start_method: ``'fork'``, ``'spawn'`` or ``'forkserver'``; None for that of this process, which MMEngine sets
            from ``env_cfg.mp_cfg`` (``'fork'`` by default, as for data workers).

    """

    def __init__(self, num_workers: int, start_method: str | None = None) -> None:
        self.num_workers = num_workers
        self.start_method = start_method
        self._executor: ProcessPoolExecutor | None = None
        self._broken = False
        self._waiting: deque[Job] = deque()

    def submit(self, function: Callable, *args: Any) -> Job:
        """Have ``function(*args)`` computed.

        Returns at once unless 4 calls per worker are waiting already; then the oldest is waited for, which bounds the
        memory. The arguments must not be changed afterwards.

        Args:
            function: What to call; must be picklable.
            *args: Its arguments.
        """
        while len(self._waiting) > 0 and len(self._waiting) >= _AHEAD * self.num_workers:
            self._result(self._waiting.popleft())
        job = Job(function, args, self._start(function, args))
        if job._future is None:
            job.result()
        else:
            self._waiting.append(job)
        return job

    def wait(self, advance: Callable[[], None] = lambda: None) -> None:
        """Wait for all calls; ``advance`` is called after each that was still waiting."""
        while self._waiting:
            self._result(self._waiting.popleft())
            advance()

    @property
    def num_waiting(self) -> int:
        """Number of calls that are not known to have ended."""
        return len(self._waiting)

    def close(self) -> None:
        """End the processes; calls that have not begun are dropped. The pool can be used again."""
        self._waiting.clear()
        executor, self._executor = self._executor, None
        self._broken = False
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)

    def __getstate__(self) -> dict:
        return dict(vars(self), _executor=None, _waiting=deque(), _broken=False)

    def _result(self, job: Job) -> None:
        future = job._future
        job.result()
        if future is not None and isinstance(future.exception(), BrokenProcessPool):
            self._note_death()

    def _start(self, function: Callable, args: tuple) -> Future | None:
        if self.num_workers == 0 or self._broken:
            return None
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.num_workers, multiprocessing.get_context(self.start_method), _start_worker
            )
        try:
            return self._executor.submit(function, *args)
        except BrokenProcessPool:
            self._note_death()
            return None

    def _note_death(self) -> None:
        if not self._broken:
            self._broken = True
            print_log(
                'a process that measures images died (killed, or out of memory); its images and the rest are measured '
                'in the main process, which takes longer. Fewer processes need less memory: num_workers',
                'current',
                logging.WARNING,
            )


def _start_worker() -> None:
    """Prepare a worker process: signals are the parent's business, and nothing may outlive it."""
    # A forked process has the handlers of its parent, which would keep it from being terminated.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ('SIGINT', 'SIGUSR1', 'SIGUSR2'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    """End this process when its parent (or the fork server, which ends with it) is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
