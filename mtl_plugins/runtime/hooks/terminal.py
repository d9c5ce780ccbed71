"""Sharing the terminal between a live display and everything else that writes to it."""

import contextlib
import io
import logging
import os
import sys
from typing import Any, TextIO

from mmengine.logging import MMLogger
from rich.console import Console
from rich.text import Text


class TerminalRedirection:
    """Sends log handlers, ``print`` and warnings through a console until :meth:`undo`."""

    def __init__(self, console: Console) -> None:
        self._stdout, self._stderr = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = AboveBarStream(sys.stdout, console), AboveBarStream(sys.stderr, console)
        self._replaced = (sys.stdout, sys.stderr)
        self._handlers: list[tuple[logging.StreamHandler, Any, Any]] = []
        for logger in [*MMLogger._instance_dict.values(), logging.getLogger()]:
            for handler in logger.handlers:
                # Files are stream handlers too, but their stream is none of the two.
                if isinstance(handler, logging.StreamHandler) and handler.stream in _standard(
                    self._stdout, self._stderr
                ):
                    stream = AboveBarStream(handler.stream, console)
                    self._handlers.append((handler, stream, handler.setStream(stream)))

    def undo(self) -> None:
        """Put everything back that is still as we set it."""
        for handler, ours, former in self._handlers:
            if handler.stream is ours:
                handler.setStream(former)
        for stream in self._replaced:
            stream.finish()
        if sys.stdout is self._replaced[0]:
            sys.stdout = self._stdout
        if sys.stderr is self._replaced[1]:
            sys.stderr = self._stderr


def _standard(*current: TextIO) -> tuple[Any, ...]:
    return tuple(stream for stream in (*current, sys.__stdout__, sys.__stderr__) if stream is not None)


class AboveBarStream(io.TextIOBase):
    """A text stream that prints whole lines above the bar; in forked processes it is the original stream."""

    def __init__(self, original: TextIO, console: Console) -> None:
        self._original = original
        self._console = console
        self._process = os.getpid()
        self._line = ''

    def write(self, text: str) -> int:
        """Print the complete lines in ``text`` and keep the rest for the next call."""
        if os.getpid() != self._process:
            return self._original.write(text)
        *lines, self._line = (self._line + text).split('\n')
        for line in lines:
            self._console.print(Text.from_ansi(line), soft_wrap=True, highlight=False)
        return len(text)

    def finish(self) -> None:
        """Write what has not been ended by a new line."""
        line, self._line = self._line, ''
        LastingStream(self._original).write(line)

    def flush(self) -> None:
        """Flush the original stream."""
        LastingStream(self._original).flush()

    def isatty(self) -> bool:
        """Whether the original stream is a terminal."""
        return self._original.isatty()

    def fileno(self) -> int:
        """File number of the original stream."""
        return self._original.fileno()

    @property
    def encoding(self) -> str:
        """Encoding of the original stream."""
        return self._original.encoding


class LastingStream:
    """A text stream that can be written to when its terminal was closed."""

    def __init__(self, original: TextIO) -> None:
        self._original = original

    def write(self, text: str) -> int:
        """Write, if anybody is there."""
        with contextlib.suppress(OSError):
            self._original.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if anybody is there."""
        with contextlib.suppress(OSError):
            self._original.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)
