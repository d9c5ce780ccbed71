"""Trainings as children of one process that has made the imports, which take longer than many a short training."""

import multiprocessing
import os
import random
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

LOST = 255
"""Exit code of a child whose end nobody saw, because the process that all are children of was killed."""
_WARM = 'mtl_plugins.experiments.runs.warm'


def can_fork() -> bool:
    """Whether this system makes copies of a process that has loaded torch; elsewhere each training starts anew."""
    return sys.platform == 'linux'


class ForkedProcess:
    """``python -m mtl_plugins ...`` as a fork of a process that has made the imports and nothing else.

    That process runs no operation and has no threads, so that the child is what a process of its own would be: it has a
    session, an environment, random numbers and a log of its own. Its standard input ends when this process dies.

    Args:
        arguments: What follows ``-m mtl_plugins``.
        environment: All variables of the environment. Those that libraries read when they are loaded, such as
            ``OMP_NUM_THREADS``, must be the same in all children.
        log: File that all output is appended to.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload([_WARM])
        self._process = context.Process(target=_run, args=(list(arguments), dict(environment), str(log.absolute())))
        # The server is started here if it does not run. What looks for GPUs when it is imported must leave CUDA alone,
        # which forks cannot use once it is initialized.
        with mock.patch.dict(os.environ, {**environment, 'PYTORCH_NVML_BASED_CUDA_CHECK': '1'}):
            try:
                self._process.start()
            except (OSError, EOFError):  # it was killed just now; then it is started anew
                self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait for the end."""
        self._process.join()


def _run(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """What the child does."""
    import numpy as np
    import torch

    os.setsid()  # Ctrl-C must not end it before it could save
    os.dup2(multiprocessing.parent_process().sentinel, 0)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ.clear()
    os.environ.update(environment)
    random.seed()
    np.random.seed(None)  # noqa: NPY002 - the generator that is the same in all forks
    torch.seed()
    sys.argv = ['mtl_plugins', *arguments]
    sys.orig_argv = [sys.executable, '-m', *sys.argv]
    runpy.run_module('mtl_plugins', run_name='__main__', alter_sys=True)
