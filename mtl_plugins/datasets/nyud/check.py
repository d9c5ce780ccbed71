"""What must hold for a folder of NYUD-v2, for ``tools/datasets/verify.py nyud``."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..files import UnreadableFileError, missing_files, read_fixture_marker, read_lines
from ..files.axes import OURS
from ..verification.axes import AxesFinding
from ..verification.base import CheckJob, LayoutCheck, Problem
from ..verification.files import check_ids, check_jpeg, check_npy, check_png, check_target
from ..verification.kinds import make_problem
from . import layout
from .decoding import EDGE_THRESHOLD, decode, read_stored, read_target
from .prepare import read_provenance

FARTHEST = 20.0
"""Metres. The camera sees about 10 m far; more means another unit."""
NORMAL_TOLERANCE = 0.1
FOCAL = 519.0
"""Focal length of the camera in pixels; cutting the border has not changed it."""
_MEASURED = 5
_CERTAIN = 0.6
_DTYPES = ('float32', 'float64')


class NYUDv2Check(LayoutCheck):
    """The layout, counts, sizes, formats and values of NYUD-v2 in any packaging.

    Args:
        root: The folder or its parent.

    Raises:
        FileNotFoundError: If it is not there.
    """

    NAME = layout.NAME

    def __init__(self, root: str | Path) -> None:
        super().__init__(layout.find_nyud(root))
        self.marker = read_fixture_marker(self.root)
        self.provenance = read_provenance(self.root)
        known = self.marker or self.provenance
        self.counts = known['counts'] if known else layout.COUNTS
        self.sizes = (tuple(known['size']),) if known else None
        self.packaging: layout.Packaging | None = None
        self.packaging_problem = ''
        try:
            self.packaging = layout.detect_packaging(self.root)
        except layout.UnknownPackagingError as error:
            self.packaging_problem = str(error)
        self.ids, self.split_problems = self._read_splits()

    def structure(self) -> Iterable[Problem]:
        """Folders, split files and their ids."""
        if self.packaging is None:
            remedy = 'unpack one archive into a folder of its own'
            yield make_problem('unknown packaging', '', self.packaging_problem, remedy)
        for folder in (layout.IMAGE_FOLDER, *layout.FOLDERS.values()):
            if not (self.root / folder).is_dir():
                yield make_problem('missing folder', folder, 'there is no such folder')
        yield from self.split_problems
        for split, ids in self.ids.items():
            yield from check_ids(layout.split_path(split), ids, self.counts.get(split))
            unknown = [sample for sample in dict.fromkeys(ids) if sample in self._unknown]
            if unknown:
                detail = f'{len(unknown)} have not a single file: {", ".join(map(repr, unknown[:5]))}'
                yield make_problem('unknown ids', layout.split_path(split), detail)
        both = sorted(set(self.ids.get('train', ())) & set(self.ids.get('val', ())))
        if both:
            detail = f'{len(both)} are in both splits: {", ".join(both[:5])}{", ..." if len(both) > 5 else ""}'
            yield make_problem('duplicate ids', layout.SPLIT_FOLDER, detail)

    def jobs(self) -> list[CheckJob]:
        """One job per sample that has files; ids and folders without any are left to :meth:`structure`."""
        if self.packaging is None:
            return []
        sizes = self.sizes or self.packaging.sizes
        return [
            CheckJob(
                files,
                functools.partial(
                    check_sample, sample=sample, packaging=self.packaging.name, tasks=self._tasks, sizes=sizes
                ),
            )
            for sample, files in self._files.items()
            if sample not in self._unknown
        ]

    def across(self) -> Iterable[Problem]:
        """Normals that point another way than the loader takes them."""
        yield from self.axes.problems(layout.FOLDERS['normals'])

    def describe(self) -> dict[str, str]:
        """Folder, packaging, samples per split."""
        packaging = f'{self.packaging.name}: {self.packaging.title}' if self.packaging else 'not recognised'
        samples = ', '.join(f'{split} {len(ids)}' for split, ids in self.ids.items())
        return {
            'folder': str(self.root),
            'packaging': packaging,
            'samples': samples or 'no split file',
            'content': self._describe_content(),
            'normals': self.axes.describe(),
        }

    @functools.cached_property
    def _tasks(self) -> tuple[str, ...]:
        """Tasks whose folder is there."""
        return tuple(task for task in layout.TASKS if (self.root / layout.FOLDERS[task]).is_dir())

    @functools.cached_property
    def _files(self) -> dict[str, tuple[str, ...]]:
        """The files of each sample, relative to the root."""
        if self.packaging is None:
            return {}
        return {
            sample: (
                self.packaging.image_path(sample),
                *(self.packaging.target_path(task, sample) for task in self._tasks),
            )
            for ids in self.ids.values()
            for sample in ids
        }

    @functools.cached_property
    def _unknown(self) -> frozenset[str]:
        """Ids without any file: their list is wrong, rather than all these files missing."""
        missing = missing_files(str(self.root / path) for paths in self._files.values() for path in paths)
        return frozenset(
            sample
            for sample, paths in self._files.items()
            if missing.issuperset(str(self.root / path) for path in paths)
        )

    def _describe_content(self) -> str:
        if self.marker:
            return 'rendered stand-in, not the real data'
        return f'real data; {self.provenance["note"]}' if self.provenance else 'real data'

    @functools.cached_property
    def axes(self) -> AxesFinding:
        """Which way the normals of a few samples point, which no publication states."""
        samples = [sample for sample in self._files if sample not in self._unknown]
        pairs = []
        for sample in samples[:_MEASURED]:
            with contextlib.suppress(UnreadableFileError):  # the job of this sample says what is wrong with it
                pair = [
                    read_target(task, self.root / self.packaging.target_path(task, sample))
                    for task in ('depth', 'normals')
                ]
                if pair[0].shape == pair[1].shape[:2]:
                    pairs.append(pair)
        return AxesFinding.of(pairs, FOCAL / layout.SIZE[1], OURS, _CERTAIN)

    def extra_files(self) -> Iterable[str]:
        """The split files."""
        return tuple(layout.split_path(split) for split in self.ids)

    def _read_splits(self) -> tuple[dict[str, list[str]], list[Problem]]:
        ids, problems = {}, []
        for split in layout.COUNTS:
            path = layout.split_path(split)
            try:
                ids[split] = read_lines(self.root / path)
            except FileNotFoundError:
                problems.append(make_problem('missing file', path, f'it lists the samples of the split {split}'))
            except (OSError, UnicodeDecodeError) as error:
                problems.append(make_problem('unreadable file', path, str(error)))
        return ids, problems


def check_sample(
    root: Path, sample: str, packaging: str, tasks: tuple[str, ...], sizes: tuple[tuple[int, int], ...]
) -> list[Problem]:
    """Check the image and the targets of one sample.

    Args:
        root: The folder of the data set.
        sample: The id.
        packaging: Name of the packaging.
        tasks: Tasks whose folder is there.
        sizes: Sizes (height, width) that the image may have; the targets must have that of the image.
    """
    kind = layout.get_packaging(packaging)
    path = kind.image_path(sample)
    for size in sizes:
        problems = _check_image(root, path, size)
        if not problems:
            break
    else:
        size, problems = sizes[0], _check_image(root, path, sizes[0])
    for task in tasks:
        problems += _check_target(root, kind.target_path(task, sample), task, size)
    return problems


def _check_image(root: Path, path: str, size: tuple[int, int]) -> list[Problem]:
    if path.endswith('.png'):
        return check_png(root, path, size=size, channels=3, bits=8)
    return check_jpeg(root, path, size=size)


def _check_target(root: Path, path: str, task: str, size: tuple[int, int]) -> list[Problem]:
    ending = os.path.splitext(path)[1]
    channels = 3 if task == 'normals' else 1
    problems: list[Problem] = []
    if ending == '.png':
        problems = check_png(root, path, size=size, channels=channels, bits=8)
    elif ending == '.jpg':
        problems = check_jpeg(root, path, size=size, channels=channels)
    elif ending == '.npy':
        problems = check_npy(root, path, dtypes=_DTYPES)
    if problems:
        return problems
    stored = None

    def read() -> np.ndarray:
        nonlocal stored
        stored = read_stored(task, root / path)
        return decode(task, stored, root / path)

    classes = len(layout.CLASSES) if task == 'semseg' else None
    problems = check_target(root, path, task, read, size=size, num_classes=classes)
    return problems if problems or stored is None else _check_stored(path, task, stored)


def _check_stored(path: str, task: str, stored: np.ndarray) -> list[Problem]:
    """What decoding hides: files whose values are those of another format or unit."""
    wrong = None
    if task == 'edge' and stored.dtype == np.uint8:
        if 0 < stored.max() <= EDGE_THRESHOLD:
            wrong = f'0 and 255, found at most {stored.max()}'
    elif task == 'edge':
        if not np.isin(stored, (0, 1)).all():
            wrong = f'0 and 1, found {stored.min():g}..{stored.max():g}'
    elif task == 'depth':
        if np.nanmax(stored) > FARTHEST:
            wrong = f'metres (about 0.7 to 10), found up to {np.nanmax(stored):g}'
    elif task == 'normals' and stored.dtype != np.uint8:
        length = np.linalg.norm(stored, axis=-1)
        typical = np.median(length[length > 0])
        if not abs(typical - 1) < NORMAL_TOLERANCE:
            wrong = f'vectors of length 1 or 0, found a median length of {typical:.3g}'
    return [] if wrong is None else [make_problem('values out of range', path, f'{task}: expected {wrong}')]
