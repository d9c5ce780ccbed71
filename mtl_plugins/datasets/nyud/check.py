"""What must hold for a folder of NYUD-v2, for ``tools/datasets/verify.py nyud``."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable
from pathlib import Path

from ..files import UnreadableFileError, missing_files, read_lines
from ..files.axes import OURS
from ..files.provenance import read_provenance
from ..verification.axes import AxesFinding
from ..verification.base import CheckJob, LayoutCheck, Problem
from ..verification.files import check_decodes, check_ids, check_jpeg, check_npy, check_png, check_target, reason
from ..verification.kinds import make_problem
from . import layout
from .decoding import read_target

FOCAL = 519.0
"""Focal length of the camera in pixels; cutting the border has not changed it."""
_MEASURED = 5
_CERTAIN = 0.6


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
        self.provenance = read_provenance(self.root)
        self.counts = self.provenance['counts'] if self.provenance else layout.COUNTS
        self.sizes = (tuple(self.provenance['size']),) if self.provenance else None
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
            'content': self.provenance['note'] if self.provenance else 'real data',
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
            except (OSError, ValueError) as error:
                problems.append(make_problem('unreadable file', path, reason(error)))
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
        return check_png(root, path, size=size, channels=3, bits=8) or check_decodes(root, path, size=size)
    return check_jpeg(root, path, size=size)


def _check_target(root: Path, path: str, task: str, size: tuple[int, int]) -> list[Problem]:
    ending = os.path.splitext(path)[1]
    if ending == '.npy':  # which may be longer than its header says
        problems = check_npy(root, path, dtypes=None)
        if problems:
            return problems
    classes = len(layout.CLASSES) if task == 'semseg' else None
    read = functools.partial(read_target, task, root / path)
    return check_target(root, path, task, read, size=size, num_classes=classes)
