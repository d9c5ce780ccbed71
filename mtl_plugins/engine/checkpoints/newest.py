"""Which checkpoint to go on from: the newest one on the disk that really loads."""

from __future__ import annotations

import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from .safe_load import CorruptCheckpointError, UnsafeCheckpointError, safe_torch_load

POINTER = 'last_checkpoint'


def find_newest_loadable(work_dir: str | Path) -> str | None:
    """Find the checkpoint with the most iterations that can be loaded and resumed from.

    The ``last_checkpoint`` pointer is only used to learn of a folder outside ``work_dir`` (``CheckpointHook``'s
    ``out_dir``): after a crash it can name an older file, one that is gone, or nothing.

    Args:
        work_dir: Folder of the run.

    Returns:
        str | None: Path of the checkpoint; None if there is none. Files that were passed over are named in the log.
    """
    folders = [Path(work_dir)]
    pointer = folders[0] / POINTER
    if pointer.is_file():
        named = pointer.read_text(encoding='utf-8', errors='replace').strip()
        if named and '\0' not in named and Path(named).parent.resolve() != folders[0].resolve():
            folders.append(Path(named).parent)
    candidates = {path.resolve(): path for folder in folders if folder.is_dir() for path in folder.glob('*.pth')}
    for path in sorted(candidates.values(), key=_progress, reverse=True):
        reason = why_not_resumable(path)
        if reason is None:
            return str(path)
        print_log(f'{path} is passed over: {reason}', 'current', logging.WARNING)
    return None


def why_not_resumable(path: str | Path) -> str | None:
    """Check a checkpoint without building its tensors in memory.

    The checksums of all records are verified, which reads the file once, and its structure is loaded with the tensors
    mapped from the disk.

    Args:
        path: A ``.pth`` file.

    Returns:
        str | None: None if training can be resumed from it, else the reason why not.
    """
    try:
        # A checksum error is only possible in the zip format; the older one is read in full by the load below.
        zipped = zipfile.is_zipfile(path)
        if zipped:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                return f'damaged (the checksum of {damaged} differs)'
        checkpoint = _load_mapped(path) if zipped else safe_torch_load(path, 'cpu')
    except (UnsafeCheckpointError, CorruptCheckpointError) as error:
        return str(error)
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        return f'unreadable, probably truncated ({error})'
    missing = [key for key in ('meta', 'state_dict', 'optimizer') if not _has(checkpoint, key)]
    if missing:
        return f'it holds no {" and no ".join(missing)}, so it can be loaded (load_from) but not resumed from'
    if not isinstance(checkpoint['meta'], dict) or 'iter' not in checkpoint['meta']:
        return 'it does not say at which iteration it was saved'
    return None


def _load_mapped(path: str | Path) -> Any:
    try:
        return torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except Exception:
        return safe_torch_load(path, 'cpu')  # gives the right error, or loads what cannot be mapped


def _has(checkpoint: Any, key: str) -> bool:
    return isinstance(checkpoint, dict) and key in checkpoint


def _progress(path: Path) -> tuple[int, float]:
    """Iteration (or epoch) in the file's name, then age, so that equal numbers go to the younger file."""
    number = re.search(r'(\d+)\.pth$', path.name)
    try:
        age = path.stat().st_mtime
    except OSError:
        age = 0.0
    return (int(number.group(1)) if number else -1, age)
