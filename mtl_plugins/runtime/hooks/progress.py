"""A progress bar on the terminal that shares it with the log."""

from __future__ import annotations

import atexit
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from mtl_plugins.registry import HOOKS
from mtl_plugins.runtime.hooks.terminal import LastingStream, TerminalRedirection
from mtl_plugins.utils.argument_types import Checked, Count

_BAR_WIDTH = 20
# Description, bar, count, speed and remaining time, with the blanks between them.
_FIXED_WIDTH = 5 + _BAR_WIDTH + 11 + 9 + 12 + 5


@HOOKS.register_module()
class RichProgressHook(Checked, Hook):
    """A bar for training, and one for validation or testing while they run.

    Shown are iterations, speed, remaining time, the number of task groups if the step reports it (scalar
    ``train/num_groups``), and the losses. The remaining time follows the recent iterations, because the cost of an
    iteration changes with the number of groups; validation does not count.

    Log lines and prints appear above the bar. Without a terminal, and in processes other than the first, the hook does
    nothing. Nothing is drawn from a thread, so data workers may be forked at any time.

    Args:
        window: Over how many of the last iterations the speed is averaged.
        refresh: Seconds between two updates of the bar.
        console: Draw here instead of on the standard output.
    """

    priority = 'VERY_LOW'

    def __init__(self, window: Count = 50, refresh: float = 0.5, console: Console | None = None) -> None:
        self.refresh = refresh
        self._durations: deque[float] = deque(maxlen=window)
        self._given_console = console
        self._progress: Progress | None = None
        self._training: TaskID | None = None
        self._evaluation: TaskID | None = None
        self._redirected: TerminalRedirection | None = None
        self._before = self._drawn = 0.0
        self._warming_up = True

    def before_train(self, runner: Any) -> None:
        """Show the training bar; it starts at the resumed iteration."""
        self._start()
        if self._progress is not None:
            self._durations.clear()
            self._training = self._add('train', runner.max_iters, runner.iter)
            self._before = time.perf_counter()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance the training bar."""
        if self._progress is None or self._training is None:
            return
        now = time.perf_counter()
        if self._warming_up and self._durations:
            self._durations.clear()  # the first iteration contains the start of the data workers
            self._warming_up = False
        self._durations.append(now - self._before)
        self._before = now
        if now - self._drawn < self.refresh and runner.iter + 1 < runner.max_iters:
            return
        self._drawn = now
        seconds = self.seconds_per_iteration
        left = (runner.max_iters - runner.iter - 1) * seconds
        self._progress.update(
            self._training,
            completed=runner.iter + 1,
            rate=f'{1 / seconds:.1f} it/s' if 0 < seconds < 1 else f'{seconds:.2f} s/it',
            eta=f'ETA {format_seconds(left)}',
            status=fitting(_status(runner, outputs), self._progress.console.width - _FIXED_WIDTH),
        )
        self._progress.refresh()

    @property
    def seconds_per_iteration(self) -> float:
        """Mean duration of the recent iterations, in seconds."""
        return sum(self._durations) / len(self._durations) if self._durations else 0.0

    def before_val(self, runner: Any) -> None:
        """Show the validation bar."""
        self._begin_evaluation('val', runner.val_dataloader)

    def before_test(self, runner: Any) -> None:
        """Show the test bar."""
        self._begin_evaluation('test', runner.test_dataloader)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance the bar of the validation or test."""
        if self._progress is None or self._evaluation is None:
            return
        self._progress.update(self._evaluation, completed=batch_idx + 1)
        now = time.perf_counter()
        if now - self._drawn >= self.refresh:
            self._drawn = now
            self._progress.refresh()

    after_test_iter = after_val_iter

    def after_val(self, runner: Any) -> None:
        """Remove the bar of the validation or test."""
        if self._progress is not None and self._evaluation is not None:
            self._progress.remove_task(self._evaluation)
            self._evaluation = None
            if self._training is None:
                self.close()
        self._before = time.perf_counter()

    after_test = after_val

    def after_train(self, runner: Any) -> None:
        """Give the terminal back; what is printed after training is no longer the bar's business."""
        self.close()

    def after_run(self, runner: Any) -> None:
        """Give the terminal back."""
        self.close()

    def close(self) -> None:
        """Stop drawing and give the terminal back; may be called at any time, and runs at exit too."""
        progress, self._progress = self._progress, None
        self._training = self._evaluation = None
        if self._redirected is not None:
            self._redirected.undo()
            self._redirected = None
        if progress is not None:
            progress.stop()
        atexit.unregister(self.close)

    def _start(self) -> None:
        self.close()
        console = self._given_console
        if not is_main_process():
            return
        if console is None:
            if not (hasattr(sys.stdout, 'isatty') and sys.stdout.isatty()):
                return
            console = Console(file=sys.stdout)
        if not console.is_terminal or console.is_dumb_terminal:
            return
        self._progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(bar_width=_BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn('{task.fields[rate]}'),
            TextColumn('{task.fields[eta]}'),
            TextColumn('{task.fields[status]}', markup=False, table_column=Column(no_wrap=True, overflow='ellipsis')),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._warming_up = True
        self._drawn = 0.0
        if not isinstance(console.file, LastingStream):
            console.file = LastingStream(console.file)
        self._redirected = TerminalRedirection(console)
        atexit.register(self.close)
        self._progress.start()

    def _begin_evaluation(self, title: str, dataloader: Any) -> None:
        if self._training is None:
            self._start()
        if self._progress is not None:
            self._evaluation = self._add(title, len(dataloader), 0)
            self._progress.refresh()

    def _add(self, title: str, total: int, completed: int) -> TaskID:
        return self._progress.add_task(title, total=total, completed=completed, rate='', eta='', status='')


def format_seconds(seconds: float) -> str:
    """Write a duration as ``m:ss``, ``h:mm:ss`` or ``d days h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f'{hours}:{minutes:02}:{rest:02}' if hours or days else f'{minutes}:{rest:02}'
    return f'{days} day{"s" if days > 1 else ""} {clock}' if days else clock


def fitting(parts: Sequence[str], width: int) -> str:
    """As many of the leading parts as fit into ``width`` characters, and an ellipsis where some are left out."""
    text = ''
    for index, part in enumerate(parts):
        longer = f'{text}  {part}' if text else part
        if len(longer) + (3 if index < len(parts) - 1 else 0) > width:
            return f'{text}  …' if text else ''
        text = longer
    return text


def _status(runner: Any, outputs: dict | None) -> list[str]:
    parts = []
    groups = runner.message_hub.log_scalars.get('train/num_groups')
    if groups is not None:
        parts.append(f'M {groups.current():g}')
    for key, value in (outputs or {}).items():
        if key == 'loss' or key.endswith('.loss'):
            parts.append(f'{key.removesuffix(".loss")} {_number(value):.3g}')
    return parts


def _number(value: Any) -> float:
    return float(value.detach() if hasattr(value, 'detach') else value)
