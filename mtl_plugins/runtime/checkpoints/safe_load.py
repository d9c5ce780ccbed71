"""Loading checkpoints without running code out of them.

A ``.pth`` file is a pickle, and unpickling can call any function. ``torch.load(weights_only=True)`` admits tensors and
plain containers only. MMEngine's own loader allow-lists ``getattr`` on top, which reaches everything again, and falls
back to the unsafe load when the safe one fails; ours does neither, and reads what MMEngine itself pickles as data
(:mod:`.foreign_state`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

import torch
from mmengine.logging import print_log
from torch import _weights_only_unpickler

from mtl_plugins.errors import UserRuntimeError, UserTypeError

from .foreign_state import GETATTR, STAND_INS, revive, without_programs
from .pickle_scan import global_names

OPT_IN = '--trust-checkpoint'
_trusted = False


class UnsafeCheckpointError(UserRuntimeError):
    """A checkpoint that refers to code was refused; nothing of it was run.

    Attributes:
        global_names (tuple[str, ...]): The refused functions and classes, such as ``('posix.system',)``.
    """

    def __init__(self, name: str, global_names: tuple[str, ...]) -> None:
        self.global_names = global_names
        super().__init__(
            f'refused to load {name}: it refers to code ({", ".join(global_names)}), which loading would run. Nothing '
            f'was run. If you know who made this file and trust them with your machine, load it with {OPT_IN}'
        )


class CorruptCheckpointError(UserRuntimeError):
    """A file that is no readable checkpoint: truncated, damaged, or something else altogether."""

    def __init__(self, name: str, cause: BaseException) -> None:
        reason = str(cause).strip().split('\n')[0].removesuffix('.') or type(cause).__name__
        # torch advises to load the file with the code in it; what is no pickle at all ends in a KeyError of one byte
        if 'weights_only' in reason or isinstance(cause, KeyError):
            reason = 'unreadable content'
        super().__init__(
            f'{name} is no readable checkpoint (truncated, damaged, or of another format): {reason}. Take another '
            'file; --resume finds the newest one in the work_dir that can be loaded'
        )


class trust_checkpoints:
    """Allow (or forbid again) checkpoints that carry code; they can do whatever the user can do.

    Calling it changes the setting of this process; used as a context manager it is undone at the end::

        with trust_checkpoints(True):
            load_checkpoint(model, 'from_a_colleague.pth')

    Args:
        trusted: Whether checkpoints may run code from now on.
    """

    def __init__(self, trusted: bool = True) -> None:
        global _trusted
        if not isinstance(trusted, bool):
            raise UserTypeError(f'trusted must be True or False, got {trusted!r}')
        self._before = _trusted
        _trusted = trusted

    def __enter__(self) -> trust_checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _trusted
        _trusted = self._before


def safe_torch_load(
    file: str | os.PathLike | IO[bytes], map_location: Any = None, *, name: str = '', mmap: bool | None = None
) -> Any:
    """Load a file by ``torch.load(weights_only=True)``; unsafely only under :class:`trust_checkpoints`.

    Args:
        file: Path or seekable binary file.
        map_location: As for :func:`torch.load`.
        name: What messages call the file; default its path.
        mmap: As for :func:`torch.load`.

    Returns:
        Any: What the file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsafeCheckpointError: If it refers to code.
        CorruptCheckpointError: If it cannot be read, or a checksum in it differs.
    """
    name = name or str(getattr(file, 'name', file) if hasattr(file, 'read') else file)
    try:
        _verify_checksums(file)
        with warnings.catch_warnings():
            # A pickle that torch did not write; if it cannot be read for that reason, an error follows anyway.
            warnings.filterwarnings('ignore', 'Detected pickle protocol', UserWarning)
            with torch.serialization.safe_globals([(stand_in, of) for of, stand_in in STAND_INS.items()]):
                loaded = torch.load(file, map_location=map_location, weights_only=True, mmap=mmap)
            return without_programs(revive(loaded))
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        names = _refused_globals(file, error)
        if not names:
            raise CorruptCheckpointError(name, error) from error
        if not _trusted:
            # ``from None``: the text of the original error advises to load unsafely.
            raise UnsafeCheckpointError(name, names) from None
    except (
        RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise CorruptCheckpointError(name, error) from error
    print_log(f'{OPT_IN}: loading {name} although it can run code ({", ".join(names)})', 'current', logging.WARNING)
    if hasattr(file, 'seek'):
        file.seek(0)
    return torch.load(file, map_location=map_location, weights_only=False)


def _verify_checksums(file: str | os.PathLike | IO[bytes]) -> None:
    """Read a file once: torch does not look at the checksums, and would load damaged weights without a word."""
    with _opened(file) as stream:
        if zipfile.is_zipfile(stream):  # the older format has none
            with zipfile.ZipFile(stream) as archive:
                # torch.serialization.set_crc32_options(False) saves without any.
                damaged = archive.testzip() if any(entry.CRC for entry in archive.infolist()) else None
            if damaged is not None:
                raise zipfile.BadZipFile(f'the checksum of {damaged} differs')


def _refused_globals(file: str | os.PathLike | IO[bytes], error: pickle.UnpicklingError) -> tuple[str, ...]:
    """Names of the functions and classes that made the safe load fail; empty if it failed for another reason."""
    found = set(re.findall(r'GLOBAL (\S+) (?:was not an allowed|whose module)', str(error)))
    with contextlib.suppress(Exception), _opened(file) as stream:
        found |= global_names(stream) - set(_weights_only_unpickler._get_allowed_globals())
    # Two spellings of the same: torch leaves out the module of builtins, old pickles name it as Python 2 did.
    found = {name if '.' in name else f'builtins.{name}' for name in found}
    found = {name.replace('__builtin__.', 'builtins.') for name in found}
    # Whether ``getattr`` is harmless depends on what it is asked for, so it is named with the rest.
    return tuple(sorted(found - (set(STAND_INS) - {GETATTR})))


@contextlib.contextmanager
def _opened(file: str | os.PathLike | IO[bytes]) -> Iterator[IO[bytes]]:
    if hasattr(file, 'seek'):
        file.seek(0)
        yield file
        file.seek(0)
    else:
        with open(file, 'rb') as stream:
            yield stream
