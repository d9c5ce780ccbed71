"""What commands print about an error that the user can mend. Imports without OpenMMLab."""

import os
import re
import sys

from mtl_plugins.errors import UserError, message_of

TRACEBACK = 'MTL_PLUGINS_TRACEBACK'
"""With this environment variable every error keeps its traceback."""
_FROM_WORKER = re.compile(r'^Caught \w+ in .* (?:process|replica) .*\.\nOriginal Traceback')


def wants_traceback() -> bool:
    """Whether :data:`TRACEBACK` is set."""
    return os.environ.get(TRACEBACK, '0') not in ('', '0')


def explain(error: Exception) -> str | None:
    """One or two lines about an error that the user can mend; None for everything else, which keeps its traceback.

    These are every :class:`mtl_plugins.errors.UserError`, and what the operating system refuses (``OSError``): files
    that are missing or may not be read, a full disk, no network.
    """
    if wants_traceback() or not (isinstance(error, UserError) or _of_the_system(error)):
        return None
    message, advice = _sentence(error), getattr(error, 'advice', '')
    return f'{message}\n{advice}' if advice and advice not in message else message


def report(command: str, error: Exception) -> bool:
    """Print what :func:`explain` says about an error, if anything; returns whether it did."""
    text = explain(error)
    if text is None:
        return False
    print(f'{command}: error: {text}\n({TRACEBACK}=1 shows where this came from)', file=sys.stderr)
    return True


def _of_the_system(error: Exception) -> bool:
    """Whether the operating system refused something: its errors have a number, also in the text of a worker's."""
    return isinstance(error, OSError) and (error.errno is not None or '[Errno ' in str(error))


def _sentence(error: Exception) -> str:
    """The message alone, where torch has brought it out of a worker process together with the traceback there."""
    text = message_of(error)
    if not _FROM_WORKER.match(text):
        return text
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'
    return text.rpartition(f'\n{name}: ')[2].strip()
