"""Python programs that tests start, forked from a process that has imported the packages below, but nothing of ours.

A fresh interpreter spends ten seconds of CPU time on these imports. Tests that are about a fresh one, and one of the
command line, start it by ``subprocess``.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import random
import re
import runpy
import subprocess
import sys
import tempfile
import textwrap
import time
import types
from pathlib import Path

from . import shortcuts

ROOT = Path(__file__).parents[2]
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
    ['torch', 'mmengine.runner', 'mmseg.models', 'mmseg.datasets', 'timm', 'cv2', 'pandas', 'matplotlib.pyplot',
     'scipy.io', 'scipy.optimize', 'sklearn.cluster', 'skimage.io', 'skimage.measure', 'skimage.segmentation']
)  # fmt: skip


class Program:
    """``python WORDS`` in a process of its own, which ends with the context.

    Args:
        words: ``-m MODULE ...``, ``-c CODE ...`` or ``FILE ...``.
        cwd: The folder that it runs in.
        env: What it sees beside the environment of the tests.
        new_session: Whether it leads a process group of its own, for signals to all of its processes.
    """

    def __init__(self, *words, cwd=ROOT, env=None, new_session=False):
        self.words = [str(word) for word in words]
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ('out', 'err')]
        for file in self._files:
            file.touch()
        environment = {**os.environ, **(env or {})}
        arguments = (self.words, str(cwd), environment, [str(file) for file in self._files], new_session)
        self._process = CONTEXT.Process(target=_be, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._process.kill()
        self._process.join()
        self._folder.cleanup()

    @property
    def returncode(self):
        """As of ``subprocess.Popen``: None while it runs, and minus the number of the signal that ended it."""
        return self._process.exitcode

    @property
    def stdout(self):
        return self._files[0].read_text()

    @property
    def stderr(self):
        return self._files[1].read_text()

    def kill(self):
        self._process.kill()

    def wait_for(self, text, timeout=60):
        """Wait until it has printed a line that begins with ``text``."""
        end = time.monotonic() + timeout
        while not re.search(f'^{text}', self.stdout, re.MULTILINE):
            assert self.returncode is None, f'it ended before it printed {text!r}: {self.stderr[-2000:]}'
            assert time.monotonic() < end, f'it has not printed {text!r}: {self.stdout[-2000:]}'
            time.sleep(0.01)

    def wait(self, timeout):
        """Wait for its end; returns the exit code."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.words, timeout, self.stdout, self.stderr)
        return self.returncode


def run(*words, timeout=240, **options) -> subprocess.CompletedProcess:
    """As ``subprocess.run([sys.executable, *words], capture_output=True, text=True)``."""
    with Program(*words, **options) as program:
        program.wait(timeout)
        return subprocess.CompletedProcess(program.words, program.returncode, program.stdout, program.stderr)


def run_together(programs, timeout, expect=0):
    """Wait for programs that work with each other; each has to end with ``expect``. Returns what they have printed."""
    with contextlib.ExitStack() as stack:
        for program in programs:
            stack.enter_context(program)
        for program in programs:
            assert program.wait(timeout) == expect, program.stdout[-2000:] + program.stderr[-4000:]
        return [program.stdout for program in programs]


def _be(words, folder, environment, files, new_session):
    """Become the program: what a fresh interpreter has of its own, and then its file or module."""
    import numpy as np
    import torch

    shortcuts.take()
    if new_session:
        os.setsid()
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    random.seed()
    np.random.seed()  # noqa: NPY002
    torch.set_num_threads(1)
    try:
        if words[0] == '-m':
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name='__main__', alter_sys=True)
        elif words[0] == '-c':
            sys.argv, sys.modules['__main__'] = ['-c', *words[2:]], types.ModuleType('__main__')
            exec(textwrap.dedent(words[1]), vars(sys.modules['__main__']))
        else:
            sys.argv = words
            sys.path.insert(0, str(Path(words[0]).parent))
            runpy.run_path(words[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()
