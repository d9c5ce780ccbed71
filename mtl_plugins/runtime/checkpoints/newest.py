"""Which checkpoint to go on from: the newest one on the disk that really loads."""

import contextlib
import logging
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mtl_plugins.errors import UserError

from .resume_guard import place_differences
from .safe_load import CorruptCheckpointError, UnsafeCheckpointError, safe_torch_load

POINTER = 'last_checkpoint'
_OF_TRAININGS = re.compile(r'(iter|epoch|best)_.*')


class NoLoadableCheckpointError(UserError):
    """A folder holds checkpoints, but training can be resumed from none of them; starting anew would overwrite them."""


def find_newest_loadable(work_dir: str | Path) -> str | None:
    """Find the checkpoint with the most iterations that can be loaded and resumed from.

    The ``last_checkpoint`` pointer is only used to learn of a folder outside ``work_dir`` (``CheckpointHook``'s
    ``out_dir``): after a crash it can name an older file, one that is gone, or nothing. A copy of a run's folder still
    points to the original, but holds the file that it names.

    Args:
        work_dir: Folder of the run.

    Returns:
        str | None: Path of the checkpoint; None if there is none. Files that were passed over are named in the log.

    Raises:
        NoLoadableCheckpointError: If there are checkpoints and none can be resumed from, or if the pointer names a
            folder that cannot be seen from here. Weights that no training of this folder wrote do not count.
    """
    folders = [Path(work_dir)]
    named = _pointed_to(folders[0])
    if named and Path(named).parent.resolve() != folders[0].resolve() and not (folders[0] / Path(named).name).is_file():
        folders.append(Path(named).parent)
    candidates = {path.resolve(): path for folder in folders if folder.is_dir() for path in folder.glob('*.pth')}
    refused = {}
    for path in sorted(candidates.values(), key=_progress, reverse=True):
        reason = why_not_resumable(path)
        if reason is None:
            pointed = {(folder / Path(named).name).resolve() for folder in folders} if named else set()
            return str(_of_latest_run(path, candidates, pointed))
        print_log(f'{path} is passed over: {reason}', 'current', logging.WARNING)
        if _OF_TRAININGS.fullmatch(path.name):
            refused[path] = reason
    if refused:
        listed = '\n  '.join(f'{path}: {reason}' for path, reason in refused.items())
        raise NoLoadableCheckpointError(
            f'cannot resume: none of the {len(refused)} checkpoints in {work_dir} can be resumed from, and training '
            f'from the beginning would overwrite them:\n  {listed}\n'
            'Name a good one by --resume-from, choose another --work-dir, or move these files away'
        )
    if len(folders) > 1 and not folders[1].is_dir():
        raise NoLoadableCheckpointError(
            f'cannot resume: {folders[0] / POINTER} names {named}, and there is no such folder here. Make it '
            'available, name a checkpoint by --resume-from, or remove that file to start from the beginning'
        )
    return None


def _of_latest_run(found: Path, candidates: Mapping[Path, Path], pointed: Collection[Path]) -> Path:
    """The checkpoint that was saved last: a run that began anew in the folder of a longer one has fewer iterations.

    The times of files alone do not tell, since copies have new ones.
    """
    number, age = _progress(found)
    others = [
        path
        for place, path in candidates.items()
        if _progress(path)[0] < number
        and (_progress(path)[1] > age or place in pointed)
        and not why_not_resumable(path)
    ]
    latest = max([found, *others], key=lambda path: (_saved_at(path), _progress(path))) if others else found
    if latest != found:
        print_log(
            f'{found} has more iterations than {latest}, but was saved before it, by an earlier training',
            'current',
            logging.WARNING,
        )
    return latest


def _saved_at(path: Path) -> str:
    return str(safe_torch_load(path, 'cpu', mmap=zipfile.is_zipfile(path))['meta'].get('time', ''))


def warn_of_fresh_start(work_dir: str | Path) -> None:
    """Say which checkpoints of an earlier training lie where one begins anew."""
    there = sorted((path for path in Path(work_dir).glob('*.pth') if _OF_TRAININGS.fullmatch(path.name)), key=_progress)
    if there:
        print_log(
            f'{work_dir} holds {len(there)} checkpoints of an earlier training (the last is {there[-1].name}), and '
            'this one begins anew: files of the same name are replaced. --resume would go on with the earlier one, '
            'and another --work-dir keeps both',
            'current',
            logging.WARNING,
        )


def refuse_fresh_start(work_dir: str | Path) -> None:
    """For a resume that loaded nothing: check that no checkpoint is there, which training would overwrite.

    Raises:
        NoLoadableCheckpointError: If there is one.
    """
    newest = find_newest_loadable(work_dir)
    if newest is not None:
        raise NoLoadableCheckpointError(
            f'cannot resume: {Path(work_dir) / POINTER} does not name a checkpoint, and training from the beginning '
            f'would overwrite what is there. Go on from the newest by load_from={newest} with resume=True, or choose '
            'another work_dir'
        )


def _pointed_to(work_dir: Path) -> str:
    """What the pointer of a work dir names; empty if there is none, or if it is damaged."""
    with contextlib.suppress(OSError):
        named = (work_dir / POINTER).read_text(encoding='utf-8', errors='replace').strip()
        return '' if '\0' in named else named
    return ''


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
        checkpoint = safe_torch_load(path, 'cpu', mmap=zipfile.is_zipfile(path))
    except (UnsafeCheckpointError, CorruptCheckpointError) as error:
        return str(error)
    except (OSError, EOFError, ValueError, NotImplementedError) as error:
        return f'unreadable, probably truncated ({error})'
    missing = [key for key in ('meta', 'state_dict', 'optimizer') if not _has(checkpoint, key)]
    if missing:
        return f'it holds no {" and no ".join(missing)}, so it can be loaded (load_from) but not resumed from'
    if not isinstance(checkpoint['meta'], dict) or place_differences(checkpoint['meta']):
        return 'it does not say at which iteration and epoch it was saved'
    return None


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
