"""A folder of rendered samples: one uncompressed ``.npz`` file each, filled once, read many times."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import get_rank
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mtl_plugins.errors import UserError, UserRuntimeError
from mtl_plugins.runtime.signals import ignore_signals

from .npz import read_npz

try:
    import fcntl
except ImportError:  # Windows: no advisory locks; atomic writes still keep the cache right, work may be done twice
    fcntl = None

CACHE_ENV = 'MTL_PLUGINS_CACHE'
_LOCK_NAME = '.lock'
_POLL_SECONDS = 0.1

Sample = dict[str, np.ndarray]
Render = Callable[[int], Sample]


class CacheError(UserRuntimeError):
    """A cache folder or file cannot be written or read; the message names it and says what to do."""


def default_cache_dir() -> Path:
    """The folder of all caches: the environment variable ``MTL_PLUGINS_CACHE``, else ``~/.cache/mtl_plugins``."""
    return Path(os.environ.get(CACHE_ENV) or Path('~/.cache/mtl_plugins')).expanduser()


def fingerprint(parameters: dict[str, Any]) -> str:
    """Short hash of everything that determines the content of a cache (must be serializable as JSON)."""
    text = json.dumps(parameters, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class SampleCache:
    """Samples ``0 .. n-1``, each a dict of arrays in ``<root>/<index>.npz``.

    Files are written under a temporary name and then renamed, so that whatever the folder holds under its final name
    is complete: an interrupted :meth:`fill` goes on where it stopped. Instances are small and can be pickled, hence
    sent to data loader workers.

    Args:
        root: The folder; created by :meth:`fill`. Include a :func:`fingerprint` of the renderer in its name.
        n: Number of samples. A larger ``n`` on the same folder only adds what is missing.
    """

    def __init__(self, root: str | os.PathLike, n: int) -> None:
        self.root = Path(root)
        self.n = int(n)
        if self.n < 1:
            raise ValueError(f'SampleCache.n must be at least 1, but got {n!r}')

    @classmethod
    def create(
        cls, name: str, parameters: dict[str, Any], n: int, cache_dir: str | os.PathLike | None = None
    ) -> SampleCache:
        """A cache in ``<cache_dir>/<name>-<fingerprint of parameters>``.

        Args:
            name: Readable part of the folder's name.
            parameters: All that determines the content, including a version of the renderer.
            n: Number of samples.
            cache_dir: Folder of all caches, by default :func:`default_cache_dir`.
        """
        base = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        return cls(base / f'{name}-{fingerprint(parameters)}', n)

    def __len__(self) -> int:
        return self.n

    def path(self, index: int) -> Path:
        """File of sample ``index``."""
        if not 0 <= index < self.n:
            raise IndexError(
                f'sample {index} is outside of the cache {self.root}, which holds samples 0 to {self.n - 1}'
            )
        return self.root / f'{index:06d}.npz'

    def missing(self) -> list[int]:
        """Indices of the samples that are not there yet (an empty file, left by a crash of the machine, counts too)."""
        try:
            # One listing instead of n stat calls: this runs at every start, often on network storage.
            present = {entry.name for entry in os.scandir(self.root) if entry.stat().st_size > 0}
        except FileNotFoundError:
            present = set()
        except OSError as error:
            raise CacheError(f'cannot list the cache folder {self.root} ({error}); {_CHOOSE_ANOTHER}') from error
        return [index for index in range(self.n) if self.path(index).name not in present]

    def fill(self, render: Render, title: str, num_workers: int = 0) -> int:
        """Render all samples that are missing; return how many this process rendered.

        Several processes, also of several nodes on shared storage, may call this at once: one renders, the others
        wait until the folder is complete. A folder that is complete is never written to.

        Args:
            render: Sample of an index as a dict of arrays. With ``num_workers`` it must be picklable.
            title: Text of the progress bar (shown on rank 0 in a terminal only).
            num_workers: Rendering processes; 0 renders in this one.

        Raises:
            CacheError: If the folder cannot be written, or a rendering process died.
        """
        if num_workers < 0:
            raise UserError(f'num_workers must be 0 or more, but got {num_workers}')
        if not self.missing():
            return 0
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f'cannot make the cache folder {self.root} ({error}); {_CHOOSE_ANOTHER}') from error
        with exclusive(self.root) as locked:
            todo = self.missing()  # another process may have filled the cache while we waited
            if todo:
                if locked:
                    self._remove_leftovers()
                print_log(f'{title}: {len(todo)} of {self.n} samples into {self.root}', logger='current')
                results = (
                    self._render_here(render, todo) if num_workers == 0 else self._fan_out(render, todo, num_workers)
                )
                exhaust(results, title, len(todo))
        return len(todo)

    def load(self, index: int, fields: Iterable[str]) -> Sample:
        """Read some arrays of one sample; only these are read from disk.

        Raises:
            CacheError: If the file is missing, damaged or lacks a field; the message names the file.
        """
        path, fields = self.path(index), tuple(fields)
        try:
            with open(path, 'rb') as file:
                return read_npz(file, fields)
        except FileNotFoundError as error:
            raise CacheError(
                f'the cached sample {path} is missing; was the cache deleted during the run? Start again to render it'
            ) from error
        except Exception as error:  # a damaged archive can raise nearly anything, from BadZipFile to zlib.error
            raise CacheError(
                f'cannot read {", ".join(fields)} of the cached sample {path} ({type(error).__name__}: {error}); '
                f'delete this file, or the whole folder {self.root}, and start again: it is rendered anew'
            ) from error

    def write(self, index: int, sample: Sample) -> None:
        """Store one sample: to a temporary file, then renamed in one step.

        Raises:
            CacheError: If it cannot be written, for example because the disk is full.
        """
        path = self.path(index)
        temporary = path.with_name(f'.{path.stem}.{os.getpid()}.tmp')
        try:
            with open(temporary, 'wb') as file:
                np.savez(file, **sample)
            os.replace(temporary, path)
        except OSError as error:
            raise CacheError(f'cannot write the cached sample {path} ({error}); {_CHOOSE_ANOTHER}') from error
        finally:
            temporary.unlink(missing_ok=True)

    def _render_here(self, render: Render, indices: Sequence[int]) -> Iterator[int]:
        for index in indices:
            self.write(index, render(index))
            yield index

    def _fan_out(self, render: Render, indices: Sequence[int], num_workers: int) -> Iterator[int]:
        # 'spawn': a fork of a process in which torch has started threads may hang.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(min(num_workers, len(indices)), context, ignore_signals) as pool:
            try:
                futures = [pool.submit(_render_and_write, self, render, index) for index in indices]
                for future in as_completed(futures):
                    yield future.result()
            except BrokenProcessPool as error:
                raise CacheError(
                    f'a process that rendered into {self.root} died; start again to go on (num_workers=0 shows why)'
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)

    def _remove_leftovers(self) -> None:
        for leftover in self.root.glob('.*.tmp'):
            with contextlib.suppress(OSError):
                leftover.unlink()


_CHOOSE_ANOTHER = (
    'choose another folder by the option cache_dir of the dataset or the environment variable '
    f'{CACHE_ENV}, or free space'
)


def _render_and_write(cache: SampleCache, render: Render, index: int) -> int:
    cache.write(index, render(index))
    return index


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock; yields False where the file system has no locks. A dead holder's lock is released."""
    if fcntl is None:
        yield False
        return
    try:
        file = open(folder / _LOCK_NAME, 'w')  # noqa: SIM115 (closed below; closing is what releases the lock)
    except OSError as error:
        raise CacheError(f'cannot write into the cache folder {folder} ({error}); {_CHOOSE_ANOTHER}') from error
    with file:
        locked = _wait_for_lock(file, folder)
        yield locked


def _wait_for_lock(file: Any, folder: Path) -> bool:
    told = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not told:
                print_log(f'waiting for another process that fills {folder}', logger='current')
                told = True
            time.sleep(_POLL_SECONDS)
        except OSError:
            return False


def exhaust(results: Iterable[int], title: str, total: int) -> None:
    """Run through ``results`` under a progress bar."""
    console = Console()
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal and get_rank() == 0 and os.environ.get('RANK', '0') == '0'
    with Progress(*columns, console=console, disable=not shown) as progress:
        task = progress.add_task(title, total=total)
        for _ in results:
            progress.advance(task)
