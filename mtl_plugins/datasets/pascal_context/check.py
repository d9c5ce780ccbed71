"""What must hold for a folder with PASCAL-Context; see ``tools/datasets/verify.py``."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..files.folders import missing_files
from ..files.normals import normals_from_bytes
from ..files.pictures import upright_size
from ..files.provenance import read_provenance
from ..files.reading import UnreadableFileError, read_colours
from ..files.source import read_bytes
from ..verification.base import CheckJob, LayoutCheck, Problem
from ..verification.files import Size, check_ids, check_jpeg, check_size, check_target, unreadable
from ..verification.kinds import make_problem
from . import layout
from .decoding import LABEL_MAP, read_label_map
from .part_lists import PartLists, read_part_lists
from .parts import class_list, paint_parts, read_objects
from .reader import read_saliency, read_semseg

_LISTS_REMEDY = (
    'take the file from the archive again, or remove it: the loader then finds out from the annotations who is where'
)


class PascalContextCheck(LayoutCheck):
    """The layout of PASCAL-Context: 4998 + 5105 images, or as many as the tool that made the folder noted.

    Raises:
        FileNotFoundError: If neither ``root`` nor a folder below it looks like the data set.
    """

    NAME = layout.NAME

    def __init__(self, root: str | Path) -> None:
        super().__init__(layout.find_root(root))
        self.provenance = read_provenance(self.root)
        self.counts = layout.COUNTS if self.provenance is None else self.provenance['counts']
        self.damaged_splits: dict[str, Problem] = {}
        self.ids = {split: self._ids(split) for split in self.counts}
        self.unknown, self.without_semseg = self._find_missing()
        self.lists: dict[str, PartLists] = {}
        self.list_states: dict[str, str] = {}
        for split in self.counts:
            self.list_states[split] = self._read_lists(split)

    def describe(self) -> dict[str, str]:
        """See the base class."""
        names = layout.semseg_names(self.root)
        ids = [identifier for split in self.ids.values() for identifier in split]
        voc = sum(f'{identifier}.png' in names for identifier in ids)
        return {
            'folder': str(self.root),
            'data': 'PASCAL-Context' if self.provenance is None else self.provenance['note'],
            **{split: f'{len(ids)} images' for split, ids in self.ids.items()},
            'semantic labels': f'{voc} in {layout.SEMSEG}, {len(ids) - voc} expected in {layout.SEMSEG_FALLBACK}',
            'lists of people': ', '.join(f'{split}: {state}' for split, state in self.list_states.items()),
        }

    def structure(self) -> Iterable[Problem]:
        """See the base class."""
        for folder in layout.DATA_FOLDERS:
            if folder not in (layout.SEMSEG, layout.SEMSEG_FALLBACK) and not (self.root / folder).is_dir():
                yield make_problem('missing folder', folder, 'there is no such folder')
        if not any((self.root / folder).is_dir() for folder in (layout.SEMSEG, layout.SEMSEG_FALLBACK)):
            detail = f'there is neither {layout.SEMSEG} nor {layout.SEMSEG_FALLBACK}'
            yield make_problem('missing folder', layout.SEMSEG.partition('/')[0], detail)
        for split, state in self.list_states.items():
            wrong = list(self._check_split(split))
            yield from wrong
            # Where the list of images is wrong, that of people must differ from it.
            if not wrong and state not in ('right', 'absent'):
                yield make_problem('wrong list of people', layout.part_list_file(split), state, _LISTS_REMEDY)
        yield from self._shared_ids()
        for path in sorted(self.without_semseg):
            yield make_problem('missing file', path, f'it is neither there nor in {layout.SEMSEG_FALLBACK}')

    def jobs(self) -> list[CheckJob]:
        """One job per image that has files; the others are named by :meth:`structure`."""
        names = layout.semseg_names(self.root)
        jobs = []
        for split, ids in self.ids.items():
            lists = self.lists.get(split, {})
            for identifier in dict.fromkeys(ids):
                if identifier in self.unknown:
                    continue
                run = functools.partial(
                    check_sample,
                    identifier=identifier,
                    semseg=layout.files_of(identifier, names)['semseg'][0],
                    classes=lists.get(identifier),
                )
                paths = _files(identifier, names)
                if _first_choice(identifier) in self.without_semseg:
                    paths.remove(layout.files_of(identifier, names)['semseg'][0])
                jobs.append(CheckJob(tuple(paths), run))
        return jobs

    def extra_files(self) -> Iterable[str]:
        """Lists of images and of people."""
        names = [name(split) for split in self.ids for name in (layout.split_file, layout.part_list_file)]
        return [name for name in names if (self.root / name).is_file()]

    def _ids(self, split: str) -> list[str]:
        try:
            return layout.read_ids(self.root, split)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            self.damaged_splits[split] = unreadable(layout.split_file(split), error)
            return []

    def _read_lists(self, split: str) -> str:
        try:
            lists = read_part_lists(self.root, split)
        except FileNotFoundError:
            return 'absent'
        except ValueError as error:
            return str(error).partition(': ')[2]
        ids = set(self.ids[split])
        if set(lists) != ids:
            few, many = len(ids - set(lists)), len(set(lists) - ids)
            return f'expected one list per image of the split, found {few} images without and {many} other ids'
        self.lists[split] = lists
        return 'right'

    def _shared_ids(self) -> Iterable[Problem]:
        train, val = (set(self.ids.get(split, ())) for split in layout.SPLITS)
        both = sorted(train & val)
        if both:
            detail = f'{len(both)} are also in train: {", ".join(both[:5])}'
            yield make_problem('duplicate ids', layout.split_file('val'), detail)

    def _check_split(self, split: str) -> Iterable[Problem]:
        path, ids = layout.split_file(split), self.ids[split]
        if not (self.root / path).exists():
            yield make_problem('missing file', path, f'the list of the images of split {split}')
            return
        if split in self.damaged_splits:
            yield self.damaged_splits[split]
            return
        yield from check_ids(path, ids, self.counts[split])
        unknown = [identifier for identifier in dict.fromkeys(ids) if identifier in self.unknown]
        if unknown:
            detail = f'{len(unknown)} have not a single file: {", ".join(unknown[:5])}'
            yield make_problem('unknown ids', path, detail)

    def _find_missing(self) -> tuple[frozenset[str], frozenset[str]]:
        """Ids without any file (their list is wrong then), and semantic labels that lie in neither folder."""
        names = layout.semseg_names(self.root)
        files = {identifier: _files(identifier, names) for ids in self.ids.values() for identifier in ids}
        missing = missing_files(str(self.root / path) for paths in files.values() for path in paths)
        unknown = frozenset(
            identifier
            for identifier, paths in files.items()
            if missing.issuperset(str(self.root / path) for path in paths)
        )
        semseg = {identifier: layout.files_of(identifier, names)['semseg'][0] for identifier in files}
        without = {identifier for identifier, path in semseg.items() if str(self.root / path) in missing}
        return unknown, frozenset(_first_choice(identifier) for identifier in without - unknown)


def _first_choice(identifier: str) -> str:
    """Where the semantic labels of an image are looked for first."""
    return f'{layout.SEMSEG}/{identifier}.png'


def _files(identifier: str, in_voc12: frozenset[str]) -> list[str]:
    """All files of an image, each once."""
    files = layout.files_of(identifier, in_voc12)
    return list(dict.fromkeys([layout.image_file(identifier), *(path for paths in files.values() for path in paths)]))


def check_sample(root: Path, identifier: str, semseg: str, classes: list[int] | None) -> list[Problem]:
    """Check all files of an image.

    Args:
        root: Folder of the data set.
        identifier: Id of the image.
        semseg: File of its semantic labels, relative to the root.
        classes: Its entry in the lists of ``ImageSets/Parts``, None if there is none.
    """
    image = layout.image_file(identifier)
    labels, parts = f'{layout.LABEL_MAPS}/{identifier}.mat', f'{layout.HUMAN_PARTS}/{identifier}.mat'
    normals, saliency = f'{layout.NORMALS}/{identifier}.png', f'{layout.SALIENCY}/{identifier}.png'
    size = _usual_size(root / path for path in (image, semseg, normals, saliency))
    problems = check_jpeg(root, image, size=size)
    for path, task, read in (
        (semseg, 'semseg', read_semseg),
        (saliency, 'sal', read_saliency),
        (normals, 'normals', _read_normals),
    ):
        problems += check_target(root, path, task, functools.partial(read, root / path), size=size)
    return problems + _check_label_map(root, labels, size) + _check_parts(root, parts, size, classes)


def _check_label_map(root: Path, path: str, size: Size | None) -> list[Problem]:
    if not (root / path).exists():
        return []
    try:
        labels = read_label_map(root / path)
    except UnreadableFileError as error:
        return [unreadable(path, error)]
    problems = check_size(path, labels.shape, size)
    if not labels.any():
        problems.append(make_problem('no labelled pixel', path, f'{LABEL_MAP} is 0 everywhere'))
    return problems


def _check_parts(root: Path, path: str, size: Size | None, classes: list[int] | None) -> list[Problem]:
    if not (root / path).exists():
        return []
    try:
        objects = read_objects(root / path)
    except UnreadableFileError as error:
        return [unreadable(path, error)]
    try:
        target = paint_parts(objects)
    except ValueError as error:
        return [make_problem('values out of range', path, f'human_parts: {error}')]
    problems = []
    for mask in (*(item.mask for item in objects), *([] if target is None else [target])):
        problems = problems or check_size(path, mask.shape, size)
    found = class_list(objects)
    if classes is not None and found != classes:
        detail = f'the annotation has objects of the classes {found}, the list in ImageSets/Parts says {classes}'
        problems.append(make_problem('wrong list of people', path, detail, _LISTS_REMEDY))
    return problems


def _read_normals(path: Path) -> np.ndarray:
    return normals_from_bytes(read_colours(path))


def _usual_size(paths: Iterable[Path]) -> Size | None:
    """The size that most of these pictures have, of several the first one's; None if none can be opened.

    Images differ in size here, and so it cannot be said of one file alone whether its size is right.
    """
    sizes: Counter[Size] = Counter()
    for path in paths:
        with contextlib.suppress(ValueError):
            sizes[upright_size(read_bytes(path, 'a picture'))] += 1
    return max(sizes, key=sizes.__getitem__, default=None)
