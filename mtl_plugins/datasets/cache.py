"""Caches: folders of files that are made once, and then read by all processes and machines that share them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import filelock
import numpy as np
from mmengine.logging import print_log

from mtl_plugins.errors import UserError, UserRuntimeError
from mtl_plugins.utils.files import given_path, remove_leftovers, replacing
from mtl_plugins.utils.json_files import check_form
from mtl_plugins.utils.parallel import end_workers, in_processes, tracked

from .npz import read_npz

CACHE_ENV = 'MTL_PLUGINS_CACHE'
_LOCK_NAME = '.lock'
_CHOOSE_ANOTHER = (
    'choose another folder by the option cache_dir of the dataset or the environment variable '
    f'{CACHE_ENV}, or free space'
)

Sample = dict[str, np.ndarray]


class CacheError(UserRuntimeError):
    """A cache folder or file cannot be written or read; the message names it and says what to do."""


def default_cache_dir() -> Path:
    """The folder of all caches: the environment variable ``MTL_PLUGINS_CACHE``, else ``~/.cache/mtl_plugins``."""
    return given_path(os.environ.get(CACHE_ENV) or '~/.cache/mtl_plugins', CACHE_ENV)


def cache_base(cache_dir: str | os.PathLike | None) -> Path:
    """The folder of all caches that the option ``cache_dir`` of a dataset names, by default the usual one."""
    return default_cache_dir() if cache_dir is None else given_path(cache_dir, 'cache_dir')


def fingerprint(parameters: dict[str, Any]) -> str:
    """Short hash of everything that determines the content of a cache (must be serializable as JSON)."""
    text = json.dumps(parameters, sort_keys=True, separators=(',', ':'), default=np.generic.item)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class FileCache:
    """Entries in one folder, each a file that is complete whenever it is there.

    The key of an entry is its path below the folder; the ending says what it holds:

    * ``.png``: an ``(H, W)`` uint8 map, such as edges or a mask (a few kilobytes each);
    * ``.json``: anything JSON can hold, such as an index;
    * ``.npz``: a dict of arrays.

    Several processes, also of several machines, may build and read at once. Instances are small and can be pickled,
    hence sent to data loader workers.

    Args:
        folder: The folder; made when it is written to.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)

    def path(self, key: Any) -> Path:
        """File of an entry.

        Raises:
            ValueError: If the key has an unknown ending or points outside of the folder.
        """
        path = self.folder / key
        if path.suffix not in _FORMATS or os.path.isabs(key) or '..' in Path(key).parts:
            raise ValueError(f"key of derived data must be a relative path ending in {', '.join(_FORMATS)}: '{key}'")
        return path

    def get(self, key: Any, build: Callable[[], Any], form: Any = ...) -> Any:
        """The entry ``key``, built and stored if it is not there yet, or damaged.

        Args:
            key: The entry.
            build: Its value.
            form: Form of a ``.json`` entry, see :func:`~mtl_plugins.utils.json_files.check_form`.

        Raises:
            CacheError: If it cannot be written; the message names the option and the variable for the folder.
        """
        path = self.path(key)
        read = _FORMATS[path.suffix][1]
        with contextlib.suppress(Exception), open(path, 'rb') as file:  # not there, or damaged: built below either way
            value = read(file)
            check_form(value, form)
            return value
        self.write(key, build())
        # What later calls will give, so that the first one differs in nothing (JSON has no tuples, for example).
        with open(path, 'rb') as file:
            return read(file)

    def write(self, key: Any, value: Any) -> None:
        """Store an entry.

        Raises:
            CacheError: If it cannot be written, for example because the disk is full.
        """
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, open(temporary, 'wb') as file:
                _FORMATS[path.suffix][0](file, value)
        except OSError as error:
            raise CacheError(f'cannot write {path} into the cache ({error}); {_CHOOSE_ANOTHER}') from error

    def missing(self, keys: Iterable[Any]) -> list[Any]:
        """Keys that have no entry yet (an empty file, left by a crash of the machine, is none)."""
        present: dict[Path, set[str]] = {}
        absent = []
        for key in keys:
            path = self.path(key)
            if path.parent not in present:
                present[path.parent] = _files_in(path.parent)
            if path.name not in present[path.parent]:
                absent.append(key)
        return absent

    def fill(self, keys: Sequence[Any], build: Callable[[Any], Any], title: str, num_workers: int = 0) -> int:
        """Build all entries that are missing, under a progress bar; return how many this process built.

        Of several processes that call this at once, one builds and the others wait. An interrupted call goes on where
        it stopped. A complete cache is never written to.

        Args:
            keys: The entries.
            build: Value of a key; with several workers it must be picklable.
            title: Text of the progress bar.
            num_workers: Processes that build; with 0 or 1 this one does.

        Raises:
            CacheError: If an entry cannot be written, or a building process died.
        """
        if num_workers < 0:
            raise UserError(f'num_workers must be 0 or more, but got {num_workers}')
        if not self.missing(keys):
            return 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f'cannot make the cache folder {self.folder} ({error}); {_CHOOSE_ANOTHER}') from error
        with exclusive(self.folder):
            todo = self.missing(keys)  # another process may have built them while we waited
            if todo:
                for folder in {self.path(key).parent for key in todo}:
                    remove_leftovers(folder, earlier='.tmp')
                print_log(f'{title}: {len(todo)} of {len(keys)} into {self.folder}', logger='current')
                died = CacheError(
                    f'a process that wrote into {self.folder} died; start again to go on (num_workers=0 shows why)'
                )
                built = in_processes(functools.partial(_build_and_write, self, build), todo, num_workers, died)
                for _ in tracked(built, title, len(todo)):
                    pass
                if num_workers > 1:
                    end_workers()  # a training that follows needs their memory
        return len(todo)


class SampleCache(FileCache):
    """Samples ``0 .. n-1``, each a dict of arrays in ``<root>/<index>.npz``.

    Args:
        root: The folder. Include a :func:`fingerprint` of the renderer in its name.
        n: Number of samples. A larger ``n`` on the same folder only adds what is missing.
    """

    def __init__(self, root: str | os.PathLike, n: int) -> None:
        super().__init__(root)
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
        return cls(cache_base(cache_dir) / f'{name}-{fingerprint(parameters)}', n)

    @property
    def root(self) -> Path:
        """The folder."""
        return self.folder

    def __len__(self) -> int:
        return self.n

    def path(self, key: int) -> Path:
        """File of a sample."""
        if not 0 <= key < self.n:
            raise IndexError(f'sample {key} is outside of the cache {self.root}, which holds samples 0 to {self.n - 1}')
        return self.folder / f'{key:06d}.npz'

    def missing(self, keys: Iterable[int] | None = None) -> list[int]:
        """Indices of the samples that are not there yet."""
        return super().missing(range(self.n) if keys is None else keys)

    def fill(self, render: Callable[[int], Sample], title: str, num_workers: int = 0) -> int:
        """Render all samples that are missing, see :meth:`FileCache.fill`.

        Args:
            render: Sample of an index as a dict of arrays.
            title: Text of the progress bar.
            num_workers: Processes that render.
        """
        return super().fill(range(self.n), render, title, num_workers)

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


class DerivedCache(FileCache):
    """What is computed from the files of a dataset, in ``<cache>/derived/<name>-<fingerprint>``: never in its folder.

    The fingerprint covers the path of the dataset, the time of the last change of its top folder, and a version.

    Args:
        dataset_name: Readable part of the folder's name.
        root: Folder of the dataset; never written to.
        cache_dir: Folder of all caches, by default that of :func:`default_cache_dir`.
        version: Raise it when the way of deriving changes.
    """

    def __init__(
        self,
        dataset_name: str,
        root: str | os.PathLike,
        cache_dir: str | os.PathLike | None = None,
        version: int = 1,
    ) -> None:
        root = Path(root).resolve()
        stamp = fingerprint(dict(root=str(root), changed=root.stat().st_mtime_ns, version=version))
        super().__init__(cache_base(cache_dir) / 'derived' / f'{dataset_name}-{stamp}')


def _build_and_write(cache: FileCache, build: Callable[[Any], Any], key: Any) -> None:
    cache.write(key, build(key))


def _files_in(folder: Path) -> set[str]:
    try:
        # One listing instead of a question per file: this runs at every start, often on network storage.
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.stat().st_size > 0}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise CacheError(f'cannot list the cache folder {folder} ({error}); {_CHOOSE_ANOTHER}') from error


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, where the file system has locks. That of a process that died is released."""
    lock = filelock.FileLock(folder / _LOCK_NAME)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            print_log(f'waiting for another process that fills {folder}', logger='current')
            lock.acquire()
    except NotImplementedError:
        pass  # no locks: complete files still keep the cache right, work may be done twice
    except OSError as error:
        raise CacheError(f'cannot write into the cache folder {folder} ({error}); {_CHOOSE_ANOTHER}') from error
    try:
        yield
    finally:
        lock.release()


def _write_map(file: BinaryIO, value: Any) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 2:
        found = f'{value.dtype} of shape {value.shape}' if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f'a .png entry of derived data must be an (H, W) uint8 array, but got {found}')
    file.write(cv2.imencode('.png', value)[1].tobytes())


def _read_map(file: BinaryIO) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError('damaged')
    return image


def _write_arrays(file: BinaryIO, value: Sample) -> None:
    objects = [name for name, array in value.items() if np.asarray(array).dtype.hasobject]
    if objects:
        raise TypeError(f'arrays of Python objects are not stored: {", ".join(objects)}')
    np.savez(file, **value)


_FORMATS: dict[str, tuple[Callable[[BinaryIO, Any], None], Callable[[BinaryIO], Any]]] = {
    '.png': (_write_map, _read_map),
    '.json': (lambda file, value: file.write(json.dumps(value).encode()), json.load),
    '.npz': (_write_arrays, read_npz),
}
