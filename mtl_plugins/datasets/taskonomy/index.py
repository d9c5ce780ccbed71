"""The index of Taskonomy's files: which (building, point, view) exist in which domain, in a few bytes per image.

The real folders hold hundreds of thousands of files per domain, so that they are listed once, on several threads, and
what was found goes to the cache of derived data, one entry per folder. A folder that has changed since is listed anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtl_plugins.utils.parallel import tracked

from ..files import DerivedCache
from .layout import parse_name

_THREADS = 16
_FRESH_SECONDS = 2.0
_VIEW_BITS = 24


@dataclass(frozen=True)
class Folder:
    """The images in one folder (one domain of one building), ordered by point and view.

    Attributes:
        keys: ``(n,)`` int64, see :func:`key_of`; no key twice.
        forms: ``(n,)`` uint16, index into ``names``.
        names: Format strings of the file names; as a rule there is one.
        doubles: Keys that have several files.
    """

    keys: np.ndarray
    forms: np.ndarray
    names: tuple[str, ...]
    doubles: np.ndarray


@dataclass(frozen=True)
class Index:
    """All images of some buildings and domains, joined by (building, point, view).

    Attributes:
        root: Folder of the dataset.
        order: How folders are nested, one of :data:`~.layout.ORDERS`.
        buildings: Names of the buildings.
        building: ``(n,)`` uint16, index into ``buildings``.
        key: ``(n,)`` int64, see :func:`key_of`.
        forms: Domain -> ``(n,)`` int16, index into ``names`` of the domain, -1 where it has no such file.
        names: Domain -> format strings of the file names.
    """

    root: str
    order: str
    buildings: tuple[str, ...]
    building: np.ndarray
    key: np.ndarray
    forms: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.key)

    def has(self, domain: str) -> np.ndarray:
        """``(n,)`` bool: which images the domain has."""
        return self.forms[domain] >= 0

    def sample_id(self, row: int) -> str:
        """``building/point/view``."""
        return '/'.join((self.buildings[self.building[row]], *map(str, point_and_view(self.key[row]))))

    def path(self, domain: str, row: int) -> str | None:
        """File of an image, None if the domain lacks it."""
        form = self.forms[domain][row]
        return None if form < 0 else self._join(domain, row, self.names[domain][form])

    def expected_path(self, domain: str, row: int) -> str:
        """Where the file of an image is, or would have to be."""
        default = (self.names[domain] or (f'point_{{:d}}_view_{{:d}}_domain_{domain}.png',))[0]
        return self.path(domain, row) or self._join(domain, row, default)

    def take(self, rows: np.ndarray) -> Index:
        """The index of some of the images, in the given order."""
        forms = {domain: forms[rows] for domain, forms in self.forms.items()}
        return Index(
            self.root, self.order, self.buildings, self.building[rows], self.key[rows], forms, dict(self.names)
        )

    def _join(self, domain: str, row: int, name: str) -> str:
        folder = self.order.format(domain=domain, building=self.buildings[self.building[row]])
        return f'{self.root}/{folder}/{name.format(*point_and_view(self.key[row]))}'


def key_of(point: int, view: int) -> int:
    """One number for a point and a view; keys sort as (point, view) do."""
    return point << _VIEW_BITS | view


def point_and_view(key: int) -> tuple[int, int]:
    """The inverse of :func:`key_of`."""
    return int(key) >> _VIEW_BITS, int(key) & ((1 << _VIEW_BITS) - 1)


def build_index(
    root: Path, order: str, buildings: Sequence[str], domains: Sequence[str], cache: DerivedCache | None
) -> Index:
    """List the folders (or take them from the cache) and join the domains.

    Args:
        root: Folder of the dataset.
        order: How folders are nested.
        buildings: Buildings, in the order in which the images are to be; a building without folders has no images.
        domains: Domains. An image is in the index if any of them has it.
        cache: Where lists of folders are kept; None lists all of them.
    """
    return join(root, order, buildings, domains, list_folders(root, order, buildings, domains, cache))


def join(
    root: Path,
    order: str,
    buildings: Sequence[str],
    domains: Sequence[str],
    folders: Mapping[tuple[str, str], Folder],
) -> Index:
    """Join the domains of :func:`list_folders`, see :func:`build_index`."""
    keys = [np.unique(np.concatenate([folders[d, b].keys for d in domains])) for b in buildings]
    forms = {domain: np.full(sum(map(len, keys)), -1, np.int16) for domain in domains}
    names: dict[str, tuple[str, ...]] = {}
    for domain in domains:
        known: dict[str, int] = {}
        start = 0
        for building, own in zip(buildings, keys):
            folder = folders[domain, building]
            numbers = np.array([known.setdefault(name, len(known)) for name in folder.names], np.int16)
            if len(folder.keys):
                forms[domain][start + np.searchsorted(own, folder.keys)] = numbers[folder.forms]
            start += len(own)
        names[domain] = tuple(known)
    building = np.repeat(np.arange(len(buildings), dtype=np.uint16), [len(own) for own in keys])
    key = np.concatenate(keys) if keys else np.zeros(0, np.int64)
    return Index(str(root), order, tuple(buildings), building, key, forms, names)


def list_folders(
    root: Path, order: str, buildings: Sequence[str], domains: Sequence[str], cache: DerivedCache | None
) -> dict[tuple[str, str], Folder]:
    """(domain, building) -> its images; folders that do not exist have none."""
    pairs = [(domain, building) for building in buildings for domain in domains]
    stamps = [_changed(root / order.format(domain=domain, building=building)) for domain, building in pairs]
    found: dict[tuple[str, str], Folder] = {}

    def work() -> Iterator[int]:
        def one(pair: tuple[str, str], stamp: int | None) -> None:
            domain, building = pair
            found[pair] = _folder(root / order.format(domain=domain, building=building), domain, building, stamp, cache)

        # Listing waits for the disk or the network most of the time, hence threads.
        with ThreadPoolExecutor(_THREADS) as pool:
            for future in [pool.submit(one, *job) for job in zip(pairs, stamps)]:
                future.result()
                yield 1

    for _ in tracked(work(), 'Taskonomy: list files', len(pairs)):
        pass
    return found


def scan_folder(path: Path, domain: str) -> dict[str, np.ndarray]:
    """The images of one folder as arrays ``keys``, ``forms``, ``names`` and ``doubles``, see :class:`Folder`.

    If a point and view has several files, the one counts whose name tells the domain of the folder, else the first.
    """
    found: dict[int, str] = {}
    doubles: set[int] = set()
    with os.scandir(path) as entries:
        for entry in entries:
            parsed = parse_name(entry.name)
            if parsed is None:
                continue
            point, view, form = parsed
            key = key_of(point, view)
            if key in found:
                doubles.add(key)
            if key not in found or _rank(form, domain) < _rank(found[key], domain):
                found[key] = form
    names = sorted(set(found.values()))
    number = {name: index for index, name in enumerate(names)}
    keys = np.fromiter(found, np.int64, len(found))
    forms = np.fromiter((number[form] for form in found.values()), np.uint16, len(found))
    by_key = np.argsort(keys)
    return dict(
        keys=keys[by_key],
        forms=forms[by_key],
        names=np.array(names, dtype=str),
        doubles=np.array(sorted(doubles), np.int64),
    )


def _rank(form: str, domain: str) -> tuple[bool, str]:
    return not form.endswith(f'_domain_{domain}.png'), form


def _changed(path: Path) -> int | None:
    """Time of the last change of a folder in ns, None if there is no such folder."""
    try:
        return path.stat().st_mtime_ns if path.is_dir() else None
    except FileNotFoundError:
        return None


def _folder(path: Path, domain: str, building: str, stamp: int | None, cache: DerivedCache | None) -> Folder:
    if stamp is None:
        return Folder(np.zeros(0, np.int64), np.zeros(0, np.uint16), (), np.zeros(0, np.int64))
    # A folder that is being written to may change again within the resolution of its clock: not to be trusted yet.
    if cache is None or time.time() - stamp / 1e9 < _FRESH_SECONDS:
        arrays = scan_folder(path, domain)
    else:
        arrays = cache.get(f'index/{domain}/{building}-{stamp:x}.npz', lambda: scan_folder(path, domain))
    return Folder(arrays['keys'], arrays['forms'], tuple(map(str, arrays['names'])), arrays['doubles'])
