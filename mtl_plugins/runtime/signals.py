"""Signals that mean "stop": what a command does with them before its training can. Imports nothing but Python."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

EXIT_PREEMPTED = 75
"""``EX_TEMPFAIL`` of ``sysexits.h``: "failed for now, try again later"."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
PARENT = 'MTL_PLUGINS_PARENT'
"""Set by a command for the trainings that it starts, whose standard input is open as long as the command lives."""
COMMANDS = {
    'train': 'train.py',
    'demo': 'demo.py',
    'compare': 'compare_methods.py',
    'baselines': 'single_task_baselines.py',
    'reproduce': 'reproduce.py',
}
"""The commands that a scheduler may send again after exit code 75, and their programs in ``tools``."""

_process = 0


class TrainingPreempted(SystemExit):
    """Training ended early on a signal, after its checkpoint was saved; uncaught, it ends the process with its code.

    Attributes:
        code (int): Exit code.
        signal_name (str): Name of the signal, such as ``'SIGTERM'``.
        checkpoint (str | None): The checkpoint to resume from; None if the run has none.
    """

    def __init__(self, code: int, signal_name: str, checkpoint: str | None) -> None:
        super().__init__(code)
        self.signal_name = signal_name
        self.checkpoint = checkpoint

    def __str__(self) -> str:
        way = f'resume from {self.checkpoint}' if self.checkpoint else 'there was nothing to save, so start again'
        return f'{self.signal_name}: stopped with exit code {self.code}; {way}'


def leave_on_signals() -> None:
    """From now on :data:`SIGNALS` end the program with 75, cleaning up on the way; may be called again."""
    global _process
    _process = os.getpid()
    for number in SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(number, _leave)


def leaving() -> tuple[int, ...]:
    """The signals that :func:`leave_on_signals` has taken and nobody else since."""
    return tuple(number for number in SIGNALS if signal.getsignal(number) is _leave)


def parent_is_gone() -> bool:
    """Whether the command that started this training, if any did, has died."""
    return bool(os.environ.get(PARENT)) and bool(select.select([0], [], [], 0)[0]) and not os.read(0, 1)


def may_be_sent_again(words: Sequence[str]) -> bool:
    """Whether a command line (``sys.orig_argv``) is one of :data:`COMMANDS`."""
    if '-m' in words:
        module, *rest = words[words.index('-m') + 1 :] or ['']
        return module == 'mtl_plugins' and bool(rest) and rest[0] in COMMANDS
    for place, word in enumerate(words):
        path = Path(word)
        if path.name == 'mtl-plugins':
            return not COMMANDS.keys().isdisjoint(words[place + 1 : place + 2])
        if path.name in COMMANDS.values():
            return 'tools' in path.resolve().parts
    return False


def _leave(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _process:  # a forked helper
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    error = TrainingPreempted(EXIT_PREEMPTED, signal.Signals(number).name, None)
    with contextlib.suppress(OSError):  # the terminal may be gone, and print may be in use just now
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f'{error}\n'.encode())
    raise error
