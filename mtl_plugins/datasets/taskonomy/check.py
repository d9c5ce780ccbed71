"""What must hold for a folder of Taskonomy, for ``tools/datasets/verify.py taskonomy``."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..files import NormalAxes
from ..files.provenance import read_provenance
from ..verification.axes import AxesFinding
from ..verification.base import CheckJob, LayoutCheck, LazyJobs, Problem, make_problem
from ..verification.files import check_file, check_ids, check_image, check_size, check_target, reason
from .decoding import NO_DATA, NORMAL_AXES, UNITS_PER_METRE, decode, own_holes, read_codes
from .holes import Hole, find_holes
from .index import Folder, Index, join, list_folders, point_and_view
from .layout import (
    DOMAINS,
    MASK,
    NAME,
    ORDERS,
    RGB,
    SIZE,
    SPLIT_FILE,
    SPLITS,
    Z_BUFFER,
    Splits,
    find_order,
    find_root,
    read_splits,
)
from .reader import read_mask

_NAMED = 100
"""Missing files of one folder that are named one by one; more are counted."""
_MEASURED = 8
_FOCAL = 0.85
"""Focal length per pixel of width: a field of view of 61 degrees, the mean of Taskonomy."""
_TYPICAL_METRES = (0.05, 60.0)
_TYPICAL_LENGTH = (0.9, 1.1)


class TaskonomyCheck(LayoutCheck):
    """The same (building, point, view) in every domain, sizes, bit depths and values of the tiny split of Taskonomy.

    The holes that the download is known to have are told in :meth:`describe` and are no problems.

    Args:
        root: The folder with the domains, or its parent.

    Raises:
        FileNotFoundError: If it is not there.
    """

    NAME = NAME

    def __init__(self, root: str | Path) -> None:
        super().__init__(find_root(root))
        self.provenance = read_provenance(self.root)
        self.order = find_order(self.root)
        self.split_problem: Problem | None = None
        try:
            self.splits = read_splits(self.root)
        except (OSError, ValueError) as error:
            self.split_problem = make_problem('unreadable file', SPLIT_FILE, reason(error))
        # The download comes without this file; where counts were noted, they are those of its splits.
        if self.provenance and not (self.root / SPLIT_FILE).is_file():
            self.split_problem = make_problem('missing file', SPLIT_FILE, 'it lists the buildings of each split')
        if self.split_problem:
            self.splits = Splits((), None)

    @functools.cached_property
    def index(self) -> Index:
        """All images of all buildings, listed now; the cache of the loader is not asked."""
        return join(self.root, self.order, self._buildings, (*DOMAINS, MASK), self._folders)

    @functools.cached_property
    def holes(self) -> tuple[Hole, ...]:
        """What is missing, without the domains that are missing altogether."""
        return find_holes(self.index, [domain for domain in DOMAINS if self.index.has(domain).any()]).holes

    @functools.cached_property
    def axes(self) -> AxesFinding:
        """Which way the normals of a few images point."""
        both = np.flatnonzero(self.index.has(Z_BUFFER) & self.index.has('normal'))

        def read(row: int) -> tuple[np.ndarray, np.ndarray]:
            depth, codes = (read_codes(domain, self.index.path(domain, row)) for domain in (Z_BUFFER, 'normal'))
            metres = np.where(depth == NO_DATA, 0, depth / UNITS_PER_METRE)
            return metres, decode('normal', codes, np.ones(codes.shape[:2], bool), NormalAxes())

        return AxesFinding.of(both[:: max(1, len(both) // _MEASURED)][:_MEASURED], read, _FOCAL, NORMAL_AXES)

    @property
    def _buildings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in self.splits.rows))

    def structure(self) -> Iterable[Problem]:
        """Split file, domains, buildings, and the sets of (building, point, view)."""
        path = self.splits.path or ''
        if self.split_problem:
            yield self.split_problem
            return
        if path:
            yield from check_ids(path, [name for name, _ in self.splits.rows])
        for split in SPLITS:
            yield from self._check_split(path, split)
        for domain in DOMAINS:
            if not self.index.has(domain).any():
                folder = self.order.format(domain=domain, building='*')
                yield make_problem('missing domain', domain, f'no building has files of it in {folder}')
        for hole in self.holes:
            if not hole.known:
                yield from self._missing(hole)
        yield from self._doubles()

    def jobs(self) -> Sequence[CheckJob]:
        """One job per (building, point, view), with the files that it has; :meth:`structure` names those it lacks."""
        if self.split_problem:
            return []
        size = tuple(self.provenance['size']) if self.provenance else SIZE
        return LazyJobs(lambda row: self._job(row, size), len(self.index))

    def across(self) -> Iterable[Problem]:
        """Normals that point another way than the loader takes them."""
        yield from self.axes.problems('normal')

    def describe(self) -> dict[str, str]:
        """Folder, order of the folders, images per split, known holes."""
        order = next(name for name, order in ORDERS.items() if order == self.order)
        known = '; '.join(str(hole) for hole in self.holes if hole.known)
        return {
            'folder': str(self.root),
            'order': f'{order}: {self.order}',
            'splits': self.splits.path or 'no split file: the built-in tiny list',
            'images': ', '.join(f'{split} {self._count(split)}' for split in SPLITS),
            'mask_valid': f'{self.index.has(MASK).sum()} images',
            'normals': self.axes.describe(),
            'known holes': known or 'none of them',
            'content': self.provenance['note'] if self.provenance else 'real data',
        }

    def extra_files(self) -> Iterable[str]:
        """The split file."""
        return (self.splits.path,) if self.splits.path else ()

    def _count(self, split: str) -> int:
        names = set(self.splits.buildings(split))
        of_split = np.array([building in names for building in self.index.buildings], bool)
        return int(of_split[self.index.building].sum()) if len(self.index) else 0

    def _check_split(self, path: str, split: str) -> Iterable[Problem]:
        if not self.splits.buildings(split):
            yield make_problem('empty split', path, f'it lists no building of {split}')
            return
        expected = self.provenance['counts'].get(split) if self.provenance else None
        if expected is not None and self._count(split) != expected:
            yield make_problem('wrong count', path, f'{split}: expected {expected} images, found {self._count(split)}')

    def _missing(self, hole: Hole) -> Iterable[Problem]:
        if hole.domain is None:
            folder = self.order.format(domain=RGB, building=hole.building)
            yield make_problem('missing folder', folder, 'the split file lists this building, but no domain has it')
            return
        folder = self.order.format(domain=hole.domain, building=hole.building)
        if not (self.root / folder).is_dir():
            yield make_problem('missing folder', folder, f'other domains have {len(hole.rows)} images of this building')
        elif len(hole.rows) > _NAMED:
            yield make_problem('missing view', folder, f'{len(hole.rows)} images that other domains have')
        else:
            for row in hole.rows:
                path = self._relative(self.index.expected_path(hole.domain, row))
                yield make_problem('missing view', path, f'other domains have {self.index.sample_id(row)}')

    def _doubles(self) -> Iterable[Problem]:
        for (domain, building), folder in self._folders.items():
            if len(folder.doubles):
                point, view = point_and_view(folder.doubles[0])
                path = self.order.format(domain=domain, building=building)
                detail = f'{len(folder.doubles)} views have several files, for example point {point}, view {view}'
                yield make_problem('duplicate ids', path, detail, 'remove the files that do not belong to this domain')

    @functools.cached_property
    def _folders(self) -> dict[tuple[str, str], Folder]:
        return list_folders(self.root, self.order, self._buildings, (*DOMAINS, MASK), None)

    def _job(self, row: int, size: tuple[int, int]) -> CheckJob:
        files = {
            domain: self._relative(path)
            for domain in (*DOMAINS, MASK)
            if (path := self.index.path(domain, row)) is not None
        }
        return CheckJob(
            tuple(files.values()),
            functools.partial(check_sample, domains=tuple(files), files=tuple(files.values()), size=size),
        )

    def _relative(self, path: str) -> str:
        return path.removeprefix(f'{self.root}/')


def check_sample(root: Path, domains: tuple[str, ...], files: tuple[str, ...], size: tuple[int, int]) -> list[Problem]:
    """Check the files of one image.

    Args:
        root: The folder of the dataset.
        domains: The domains that have it.
        files: Their files, relative to the root.
        size: ``(H, W)`` that all files must have.
    """
    problems: list[Problem] = []
    stored: dict[str, np.ndarray] = {}

    def read(task: str, path: str) -> np.ndarray:
        codes = stored[task] = read_codes(task, str(root / path))
        holes = own_holes(task, codes)
        return decode(task, codes, np.ones(codes.shape[:2], bool) if holes is None else ~holes)

    for domain, path in zip(domains, files):
        if domain == RGB:
            problems += check_image(root, path, size, channels=(3, 4))
        elif domain == MASK:
            check = functools.partial(_check_mask, path, size)
            problems += check_file(root, path, functools.partial(read_mask, root / path), check)
        else:
            found = check_target(root, path, domain, functools.partial(read, domain, path), size=size)
            problems += found if found or domain not in stored else _check_codes(path, domain, stored[domain])
    if {'depth_euclidean', 'depth_zbuffer'} <= stored.keys():
        problems += _check_depths(stored, dict(zip(domains, files)))
    return problems


def _check_mask(path: str, size: tuple[int, int], mask: np.ndarray) -> list[Problem]:
    return check_size(path, mask.shape, size)


def _check_codes(path: str, task: str, codes: np.ndarray) -> list[Problem]:
    """What decoding cannot see: files of another task or unit."""
    known = codes[~own_holes(task, codes)] if own_holes(task, codes) is not None else codes
    wrong = None
    if 'depth' in task:
        metres = float(np.median(known)) / UNITS_PER_METRE
        if not _TYPICAL_METRES[0] <= metres <= _TYPICAL_METRES[1]:
            wrong = f'1/512 m, found a median of {metres:.3g} m'
    elif task == 'normal':
        length = float(np.median(np.linalg.norm(known.astype(np.float32) * np.float32(2 / 255) - 1, axis=-1)))
        if not _TYPICAL_LENGTH[0] <= length <= _TYPICAL_LENGTH[1]:
            wrong = f'vectors of length 1, found a median length of {length:.3g}'
    return [] if wrong is None else [make_problem('values out of range', path, f'{task}: expected {wrong}')]


def _check_depths(stored: dict[str, np.ndarray], files: dict[str, str]) -> list[Problem]:
    """No point is nearer along its ray than along the viewing axis."""
    along_ray, along_axis = stored['depth_euclidean'], stored['depth_zbuffer']
    if along_ray.shape != along_axis.shape:
        return []
    both = (along_ray != NO_DATA) & (along_axis != NO_DATA)
    # Two codes of tolerance for rounding; in int32, where differences of uint16 cannot wrap around.
    nearer = (along_ray.astype(np.int32) + 2 < along_axis) & both
    if nearer.sum() <= 0.01 * both.sum():
        return []
    detail = (
        f'depth_euclidean: expected no less than depth_zbuffer, found less in {nearer.sum()} of {both.sum()} pixels'
    )
    return [make_problem('values out of range', files['depth_euclidean'], detail)]
