"""Which functions and classes a checkpoint refers to, found by reading its pickle without executing it."""

import pickletools
import zipfile
from typing import IO


def global_names(file: IO[bytes]) -> set[str]:
    """List every global that a ``torch.save`` file (zip or the older format) or a plain pickle names.

    Args:
        file: Seekable binary file; its position is changed.

    Returns:
        set[str]: Names such as ``'collections.OrderedDict'``. Names that the pickle puts together at run time cannot
        be seen this way.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            found: set[str] = set()
            for member in archive.namelist():
                if member.endswith('.pkl'):
                    with archive.open(member) as stream:
                        _scan(stream, found)
            return found
    file.seek(0)
    found = set()
    _scan(file, found)
    return found


def _scan(stream: IO[bytes], found: set[str]) -> None:
    """Collect the globals of all pickles that follow each other in ``stream``."""
    while True:
        strings: list[str] = []
        memo: dict[int, str] = {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                _step(opcode.name, argument, strings, memo, found)
        except ValueError:  # the end, or bytes that are no pickle (the tensors of the older format)
            return


def _step(name: str, argument: object, strings: list[str], memo: dict[int, str], found: set[str]) -> None:
    if name in ('GLOBAL', 'INST'):
        found.add(str(argument).replace(' ', '.'))
    elif name == 'STACK_GLOBAL':  # takes module and name from the stack
        found.add('.'.join(strings[-2:]))
    elif isinstance(argument, str) and 'UNICODE' in name:
        strings.append(argument)
    elif name in ('MEMOIZE', 'BINPUT', 'LONG_BINPUT', 'PUT') and strings:
        memo[len(memo) if name == 'MEMOIZE' else int(argument)] = strings[-1]  # type: ignore[call-overload]
    elif name in ('BINGET', 'LONG_BINGET', 'GET') and int(argument) in memo:  # type: ignore[call-overload]
        strings.append(memo[int(argument)])  # type: ignore[call-overload]
