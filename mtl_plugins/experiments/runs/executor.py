"""Running many trainings, some at a time, with progress; one that fails does not stop the rest."""

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mtl_plugins.runtime.signals import EXIT_PREEMPTED

from .training_run import TrainingRun


def execute(runs: Sequence[TrainingRun], jobs: int, console: Console) -> list[TrainingRun]:
    """Run the processes, ``jobs`` at a time; returns those that failed, which say why in :attr:`TrainingRun.error`.

    On an exception, a signal included, the running trainings save a checkpoint and end first.

    Raises:
        SystemExit: At Ctrl-C or SIGTERM, with exit code 75.
    """
    waiting, running = deque(runs), []
    environment = dict(os.environ)
    if jobs > 1:
        environment.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // jobs)))
    progress = Progress(
        TextColumn('{task.description}'),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with _stopping(console), progress:
        bar = progress.add_task('', total=sum(run.max_iters or 0 for run in runs) or None)
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(waiting.popleft())
                    with uninterrupted():
                        running[-1].start(environment)
                    other = running[-1].waits_for()
                    if other:
                        console.print(f'{running[-1].name}: waits for {other}', markup=False)
                with uninterrupted():
                    ended = [run for run in running if run.poll()]
                for run in ended:
                    running.remove(run)
                    outcome = f'failed: {run.error}' if run.error else run.outcome()
                    done = len(runs) - len(waiting) - len(running)
                    console.print(f'[{done}/{len(runs)}] {run.name}: {outcome}', markup=False)
                progress.update(
                    bar,
                    description='; '.join(run.name for run in running),
                    completed=sum(run.iteration() for run in runs),
                )
                if running and not ended:
                    time.sleep(0.3)
        finally:
            for run in running:
                run.stop()
    return [run for run in runs if run.error]


@contextlib.contextmanager
def _stopping(console: Console) -> Iterator[None]:
    try:
        with terminating_like_ctrl_c():
            yield
    except KeyboardInterrupt:
        console.print('stopped; start the same command again to go on')
        raise SystemExit(EXIT_PREEMPTED) from None


@contextlib.contextmanager
def terminating_like_ctrl_c() -> Iterator[None]:
    """SIGTERM as KeyboardInterrupt, so that the trainings are stopped in good order."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block: a training that is being started would go on by itself."""
    came: list[int] = []
    former = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
