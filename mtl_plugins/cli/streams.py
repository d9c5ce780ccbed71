"""Standard output and error that end no work: when nobody reads them any more, and when they lack a character."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

_NAMES = ('stdout', 'stderr')


class _Forgiving(io.FileIO):
    """A file descriptor that becomes the null device once its reader is gone."""

    def write(self, data) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # for whatever else writes to it, too
            os.close(null)
            return super().write(data)


@contextlib.contextmanager
def forgiving_streams() -> Iterator[None]:
    """Inside, what cannot be printed is no error: after ``| head`` it goes nowhere, in a locale of ASCII it is a ``?``.

    Otherwise each way of printing has an end of its own: ``print`` raises, ``rich`` leaves with code 1, logging prints
    a traceback and goes on.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file would get its number, and with it what libraries print there
            os.open(os.devnull, os.O_RDWR)
    before = {name: getattr(sys, name) for name in _NAMES}
    for name, stream in before.items():
        with contextlib.suppress(OSError, ValueError, AttributeError):  # none, closed, or no file
            raw = _Forgiving(stream.fileno(), 'w', closefd=False)
            stream.flush()
            settings = dict(encoding=stream.encoding, errors='replace', line_buffering=stream.line_buffering)
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(raw), **settings, write_through=name == 'stderr'))
    try:
        yield
    finally:
        for name, stream in before.items():
            if getattr(sys, name) is not stream:
                with contextlib.suppress(OSError, ValueError):
                    getattr(sys, name).flush()
                setattr(sys, name, stream)
