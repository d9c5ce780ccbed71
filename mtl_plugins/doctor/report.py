"""What ``doctor`` prints: one line with a check mark per step, details below it, and the first error with a hint."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mtl_plugins.errors import UserError, message_of


class StepFailed(Exception):
    """A step did not succeed; the report has shown why."""


@dataclass
class Step:
    """What a step has to say, collected while it runs."""

    summary: str = ''
    details: list[str | Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Add a line."""
        self.details.append(text)

    def note(self, text: str) -> None:
        """Add something that works but deserves a look."""
        self.notes.append(text)

    def table(self, *headings: str, rows: list[tuple[Any, ...]]) -> None:
        """Add a table; columns of numbers are right-aligned."""
        table = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style='dim')
        for number, column in enumerate(table.columns):
            if rows and all(isinstance(row[number], (int, float)) or _is_number(row[number]) for row in rows):
                column.justify = 'right'
            column.overflow = 'fold'
        for row in rows:
            table.add_row(*(Text(f'{cell:,}' if isinstance(cell, int) else str(cell)) for cell in row))
        self.details.append(table)


class Report:
    """Prints steps as they finish.

    Args:
        console: Where to print; None for the standard output.
        hint: Gives plain advice about an error, or an empty text.
        show_traceback: Whether an error comes with its traceback.
    """

    def __init__(
        self,
        console: Console | None = None,
        hint: Callable[[BaseException], str] = lambda error: '',
        show_traceback: bool = False,
    ) -> None:
        self.console = console or Console(highlight=False)
        if console is None and not self.console.is_terminal:
            self.console = Console(highlight=False, width=120)
        self.hint = hint
        self.show_traceback = show_traceback
        self.notes = 0
        self._step = Step()
        self._good, self._bad = _marks(self.console.encoding)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Run a step; prints it when it is over.

        Raises:
            StepFailed: If the body raised an exception.
        """
        self._step = step = Step()
        start = time.perf_counter()
        try:
            yield step
        except Exception as error:
            self._print(f'[bold red]{self._bad}[/]', title, step, time.perf_counter() - start)
            self._explain(error)
            raise StepFailed(title) from error
        self._print(f'[green]{self._good}[/]', title, step, time.perf_counter() - start)

    def note(self, text: str) -> None:
        """Add a note to the step that is under way."""
        self._step.note(text)

    def finish(self) -> None:
        """Print the verdict of a check without errors."""
        notes = f', {self.notes} note{"s" if self.notes > 1 else ""} (!)' if self.notes else ''
        self.console.print(f'\n[bold green]No error[/]{notes}: this config is ready to train.')

    def _print(self, mark: str, title: str, step: Step, seconds: float) -> None:
        line = Text.from_markup(f'{mark} [bold]{title}[/]')
        if step.summary:
            line.append(f': {step.summary}')
        line.append(f'  ({seconds:.1f} s)', style='dim')
        self.console.print(line, soft_wrap=True)
        for detail in step.details:
            self._indented(Text(detail) if isinstance(detail, str) else detail)
        for note in step.notes:
            self.notes += 1
            self._indented(Text(f'! {note}', style='yellow'))

    def _explain(self, error: BaseException) -> None:
        self._indented(Text(f'{_kind(error)}: {message_of(error)}', style='red'))
        hint = self.hint(error)
        if hint:
            self._indented(Text.assemble(('What to do: ', 'bold'), hint))
        where = _origin(error)
        if self.show_traceback:
            lines = traceback.format_exception(error)
            self._indented(Text(''.join(lines)))
        elif where:
            self._indented(Text(f'raised in {where}; --traceback shows the way there', style='dim'))

    def _indented(self, content: Any) -> None:
        self.console.print(Padding(content, (0, 0, 0, 4), expand=False))


def _kind(error: BaseException) -> str:
    """Name of the class; for one of :mod:`mtl_plugins.errors` that of Python which it stands for."""
    kind = type(error)
    return (kind.__bases__[-1] if kind.__module__ == UserError.__module__ else kind).__name__


def _origin(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f'{frames[-1].filename}:{frames[-1].lineno}' if frames else ''


def _marks(encoding: str) -> tuple[str, str]:
    try:
        '✓✗'.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return 'ok', 'FAILED'
    return '✓', '✗'


def _is_number(cell: Any) -> bool:
    return isinstance(cell, str) and bool(cell) and cell[0] in '0123456789-+' and cell[-1] in '0123456789%'
