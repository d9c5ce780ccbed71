"""Errors that whoever typed a command can mend: one line instead of a traceback. Imports without OpenMMLab."""

from __future__ import annotations

import dis
import os
import sys
from pathlib import Path
from types import CodeType, TracebackType

TRACEBACK = 'MTL_PLUGINS_TRACEBACK'
"""With this environment variable every error keeps its traceback."""
_OWN = Path(__file__).parent
_FILES = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_BUGS = (AssertionError, NotImplementedError)
_RAISE = dis.opmap['RAISE_VARARGS']


def wants_traceback() -> bool:
    """Whether :data:`TRACEBACK` is set."""
    return os.environ.get(TRACEBACK, '0') not in ('', '0')


def explain(error: Exception) -> str | None:
    """One or two lines about an error that the user can mend; None for everything else, which keeps its traceback.

    These are: what modules of mtl_plugins refuse with a ``raise`` of their own, whose message says what to do; what
    MMEngine refuses while it reads a config or builds what the config names; and files that are missing or may not be
    read. An error that Python or torch raises in the middle of our code is a bug of ours and is none of them.
    """
    if wants_traceback() or isinstance(error, _BUGS):
        return None
    code, position = _origin(error.__traceback__)
    if code is None or not (isinstance(error, _FILES) or _is_deliberate(code, position)):
        return None
    message = str(error.args[0]) if isinstance(error, KeyError) and len(error.args) == 1 else str(error)
    message = message.strip() or type(error).__name__
    hint = _hint(error)
    return f'{message}\n{hint}' if hint and hint not in message else message


def report(command: str, error: Exception) -> bool:
    """Print what :func:`explain` says about an error, if anything; returns whether it did."""
    text = explain(error)
    if text is None:
        return False
    print(f'{command}: error: {text}\n({TRACEBACK}=1 shows where this came from)', file=sys.stderr)
    return True


def _origin(trace: TracebackType | None) -> tuple[CodeType | None, int]:
    """The code in which an exception arose, and where in it."""
    if trace is None:
        return None, 0
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code, trace.tb_lasti


def _is_deliberate(code: CodeType, position: int) -> bool:
    path = Path(code.co_filename)
    mmengine = getattr(sys.modules.get('mmengine'), '__file__', None)
    if mmengine and any(path.is_relative_to(Path(mmengine).parent / name) for name in ('config', 'registry')):
        return True
    return path.is_relative_to(_OWN) and code.co_code[position] == _RAISE


def _hint(error: Exception) -> str:
    try:
        from mtl_plugins.apis.inspection.hints import hint_for
    except ImportError:
        return ''
    return hint_for(error)
