"""A cache for what is computed from a data set's files: never inside the data set's own folder."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.logging import print_log

from mtl_plugins.runtime.signals import ignore_signals

from ..cache import CACHE_ENV, CacheError, default_cache_dir, exclusive, exhaust, fingerprint

Build = Callable[[str], Any]


class DerivedCache:
    """Derived data of one data set in ``<cache>/derived/<name>-<fingerprint>``.

    An entry is a file whose key is its path below that folder; the ending says what it holds:

    * ``.png``: an ``(H, W)`` uint8 map, such as edges or a mask (a few kilobytes each);
    * ``.json``: anything JSON can hold, such as an index;
    * ``.npz``: a dict of arrays.

    The fingerprint covers the path of the data set, the time of the last change of its top folder, and a version.
    Entries are written under a temporary name and renamed, so that several processes may build and read at once; a
    damaged entry is built anew. Instances are small and can be pickled.

    Args:
        dataset_name: Readable part of the folder's name.
        root: Folder of the data set; never written to.
        cache_dir: Folder of all caches, by default that of :func:`~mtl_plugins.datasets.cache.default_cache_dir`.
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
        base = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        stamp = fingerprint(dict(root=str(root), changed=root.stat().st_mtime_ns, version=version))
        self.folder = base / 'derived' / f'{dataset_name}-{stamp}'

    def path(self, key: str) -> Path:
        """File of an entry.

        Raises:
            ValueError: If the key has an unknown ending or points outside of the folder.
        """
        path = self.folder / key
        if path.suffix not in _FORMATS or os.path.isabs(key) or '..' in Path(key).parts:
            raise ValueError(f"key of derived data must be a relative path ending in {', '.join(_FORMATS)}: '{key}'")
        return path

    def get(self, key: str, build: Callable[[], Any]) -> Any:
        """The entry ``key``, built and stored if it is not there yet.

        Raises:
            CacheError: If it cannot be written; the message names the option and the variable for the folder.
        """
        path = self.path(key)
        with contextlib.suppress(Exception):  # not there, or damaged: built below either way
            return _FORMATS[path.suffix][1](path.read_bytes())
        value = build()
        self._write(path, value)
        # What later calls will give, so that the first one differs in nothing (JSON has no tuples, for example).
        return _FORMATS[path.suffix][1](path.read_bytes())

    def fill(self, keys: Sequence[str], build: Build, title: str, num_workers: int = 0) -> int:
        """Build all entries that are missing, under a progress bar; return how many this process built.

        Of several processes that call this at once, one builds and the others wait. An interrupted call goes on where
        it stopped.

        Args:
            keys: The entries.
            build: Value of a key; with ``num_workers`` it must be picklable.
            title: Text of the progress bar.
            num_workers: Processes that build; 0 builds in this one.

        Raises:
            CacheError: If an entry cannot be written, or a building process died.
        """
        if not self._missing(keys):
            return 0
        self._make_folder(self.folder)
        with exclusive(self.folder):
            todo = self._missing(keys)  # another process may have built them while we waited
            if todo:
                print_log(f'{title}: {len(todo)} of {len(keys)} into {self.folder}', logger='current')
                run = self._build_here(todo, build) if num_workers == 0 else self._fan_out(todo, build, num_workers)
                exhaust(run, title, len(todo))
        return len(todo)

    def _missing(self, keys: Sequence[str]) -> list[str]:
        present: dict[Path, set[str]] = {}
        missing = []
        for key in keys:
            path = self.path(key)
            if path.parent not in present:
                present[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
            if path.name not in present[path.parent]:
                missing.append(key)
        return missing

    def _build_here(self, keys: Sequence[str], build: Build) -> Iterator[int]:
        for key in keys:
            yield self._store(key, build)

    def _fan_out(self, keys: Sequence[str], build: Build, num_workers: int) -> Iterator[int]:
        # 'spawn': a fork of a process in which torch has started threads may hang.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(min(num_workers, len(keys)), context, ignore_signals) as pool:
            try:
                futures = [pool.submit(self._store, key, build) for key in keys]
                for future in as_completed(futures):
                    yield future.result()
            except BrokenProcessPool as error:
                raise CacheError(
                    f'a process that built {self.folder} died; start again to go on (num_workers=0 shows why)'
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)

    def _store(self, key: str, build: Build) -> int:
        self._write(self.path(key), build(key))
        return 1

    def _write(self, path: Path, value: Any) -> None:
        data = _FORMATS[path.suffix][0](value)
        # Not the process id: machines that share a file system may use the same at once, and so may threads.
        temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.tmp')
        self._make_folder(path.parent)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except OSError as error:
            raise CacheError(f'cannot write derived data to {path} ({error}); {_CHOOSE_ANOTHER}') from error
        finally:
            temporary.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f'cannot make the cache folder {folder} ({error}); {_CHOOSE_ANOTHER}') from error


_CHOOSE_ANOTHER = (
    f'choose another folder by the option cache_dir of the data set or the environment variable {CACHE_ENV}, or free '
    'space'
)


def _map_to_bytes(value: Any) -> bytes:
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 2:
        found = f'{value.dtype} of shape {value.shape}' if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f'a .png entry of derived data must be an (H, W) uint8 array, but got {found}')
    return cv2.imencode('.png', value)[1].tobytes()


def _map_from_bytes(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError('damaged')
    return image


def _arrays_to_bytes(value: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **value)
    return buffer.getvalue()


def _arrays_from_bytes(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return dict(archive)


_FORMATS = {
    '.png': (_map_to_bytes, _map_from_bytes),
    '.json': (lambda value: json.dumps(value).encode(), json.loads),
    '.npz': (_arrays_to_bytes, _arrays_from_bytes),
}
