"""The line of a log that says why a training failed."""

import re
from collections.abc import Sequence

# What our commands print, torch's prefix of a rank's lines, and the beginning of a traceback.
_OURS = re.compile(r'^(?:\w+\.py|\w+): error: ')
_RANK = re.compile(r'^\[rank\d+\]: ?')
_TRACEBACK = 'Traceback (most recent call last):'
_CHAIN = ('During handling of the above exception', 'The above exception was the direct cause')
# Exceptions that only report that of another process.
_REPORTERS = ('torch.distributed.elastic.multiprocessing.errors.ChildFailedError', 'SystemExit')


def error_line(text: str) -> str:
    """The error of a program in one line, from all that it printed; what is printed after it does not hide it.

    That is the sentence of one of our commands, else the exception that ended the first traceback which the program did
    not survive, else the last line.
    """
    lines = [_RANK.sub('', line.rstrip()) for line in text.splitlines() if line.strip()]
    ours = [line for line in lines if _OURS.match(line)]
    if ours:
        return _OURS.sub('', ours[0])
    raised = [line for line in _raised(lines) if not line.startswith(_REPORTERS)]
    if raised:
        return raised[0]
    return lines[-1].strip() if lines else 'no output'


def _raised(lines: Sequence[str]) -> list[str]:
    """The last exception of each chain of tracebacks, without those that were only logged or ignored."""
    found: list[str] = []
    for place, line in enumerate(lines):
        if line.strip() != _TRACEBACK:
            continue
        before = lines[place - 1] if place else ''
        if before.startswith(('--- Logging error', 'Exception ignored')):
            continue
        end = next((n for n in range(place + 1, len(lines)) if not lines[n].startswith((' ', '\t'))), None)
        if end is None:
            continue
        if before.startswith(_CHAIN) and found:
            found[-1] = lines[end].strip()
        else:
            found.append(lines[end].strip())
    return found
