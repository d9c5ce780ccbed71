"""What must hold for a folder with PASCAL-Context; see ``tools/datasets/verify.py``."""

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ..files.normals import normals_from_bytes
from ..files.reading import read_colours
from ..verification.base import Problem, make_problem
from ..verification.files import Size, check_file, check_image, check_size, check_stored
from ..verification.listed import ListedCheck
from . import layout
from .decoding import LABEL_MAP, read_label_map
from .part_lists import PartLists, read_part_lists
from .parts import PartObject, class_list, paint_parts, read_objects
from .reader import read_saliency, read_semseg

_LISTS_REMEDY = (
    'take the file from the archive again, or remove it: the loader then finds out from the annotations who is where'
)
_EITHER = (layout.SEMSEG, layout.SEMSEG_FALLBACK)


class PascalContextCheck(ListedCheck):
    """The layout of PASCAL-Context: 4998 + 5105 images, or as many as the tool that made the folder noted.

    Raises:
        FileNotFoundError: If neither ``root`` nor a folder below it looks like the dataset.
    """

    NAME = layout.NAME
    COUNTS = layout.COUNTS

    def __init__(self, root: str | Path) -> None:
        super().__init__(layout.find_root(root))
        names = layout.semseg_names(self.root)
        fallback = self.root / layout.SEMSEG_FALLBACK
        there = set(os.listdir(fallback)) if fallback.is_dir() else set()
        # What is in neither folder is missing from the first.
        self._first = frozenset(
            name for name in map('{}.png'.format, self.samples) if name in names or name not in there
        )
        self._absent = sorted(sample for sample in self.samples if f'{sample}.png' in self._first - names)
        self.lists: dict[str, PartLists] = {}
        self.list_states = {split: self._read_lists(split) for split in self.COUNTS}
        self._classes = {sample: classes for lists in self.lists.values() for sample, classes in lists.items()}

    def split_path(self, split: str) -> str:
        """See the base class."""
        return layout.split_file(split)

    def folders(self) -> Iterable[str]:
        """See the base class; of the two folders of semantic labels one is enough."""
        return [folder for folder in layout.DATA_FOLDERS if folder not in _EITHER]

    def table(self, sample: str) -> Mapping[str, Callable[..., list[Problem]]]:
        """All files of an image, each once."""
        files = layout.files_of(sample, self._first)
        return {
            layout.image_file(sample): check_image,
            files['semseg'][0]: functools.partial(check_stored, task='semseg', read=read_semseg),
            files['sal'][0]: functools.partial(check_stored, task='sal', read=read_saliency),
            files['normals'][0]: functools.partial(check_stored, task='normals', read=_read_normals),
            files['edge'][0]: _check_label_map,
            files['human_parts'][0]: functools.partial(_check_parts, classes=self._classes.get(sample)),
        }

    def describe(self) -> dict[str, str]:
        """See the base class."""
        voc = sum(f'{sample}.png' in self._first for sample in self.samples) - len(self._absent)
        rest = len(self.samples) - voc
        return {
            'folder': str(self.root),
            'data': 'PASCAL-Context' if self.provenance is None else self.provenance['note'],
            **{split: f'{len(self.ids.get(split, ()))} images' for split in self.COUNTS},
            'semantic labels': f'{voc} in {layout.SEMSEG}, {rest} expected in {layout.SEMSEG_FALLBACK}',
            'lists of people': ', '.join(f'{split}: {state}' for split, state in self.list_states.items()),
        }

    def structure(self) -> Iterable[Problem]:
        """See the base class; also the lists of people, and semantic labels that are in neither folder."""
        problems = list(super().structure())
        yield from problems
        if not any((self.root / folder).is_dir() for folder in _EITHER):
            detail = f'there is neither {layout.SEMSEG} nor {layout.SEMSEG_FALLBACK}'
            yield make_problem('missing folder', layout.SEMSEG.partition('/')[0], detail)
        wrong = {problem.path for problem in problems}
        for split, state in self.list_states.items():
            # Where the list of images is wrong, that of people must differ from it.
            if layout.split_file(split) not in wrong and state not in ('right', 'absent'):
                yield make_problem('wrong list of people', layout.part_list_file(split), state, _LISTS_REMEDY)
        for sample in self._absent:
            if sample not in self.unknown:
                detail = f'it is neither there nor in {layout.SEMSEG_FALLBACK}'
                yield make_problem('missing file', f'{layout.SEMSEG}/{sample}.png', detail)

    def extra_files(self) -> Iterable[str]:
        """Lists of images and of people."""
        return [name(split) for split in self.COUNTS for name in (layout.split_file, layout.part_list_file)]

    def _read_lists(self, split: str) -> str:
        try:
            lists = read_part_lists(self.root, split)
        except FileNotFoundError:
            return 'absent'
        except ValueError as error:
            return str(error).partition(': ')[2]
        ids = set(self.ids.get(split, ()))
        if set(lists) != ids:
            few, many = len(ids - set(lists)), len(set(lists) - ids)
            return f'expected one list per image of the split, found {few} images without and {many} other ids'
        self.lists[split] = lists
        return 'right'


def _check_label_map(root: Path, path: str, size: Size | None) -> list[Problem]:
    def check(labels: np.ndarray) -> list[Problem]:
        nothing = [] if labels.any() else [make_problem('no labelled pixel', path, f'{LABEL_MAP} is 0 everywhere')]
        return check_size(path, labels.shape, size) + nothing

    return check_file(root, path, lambda: read_label_map(root / path), check)


def _check_parts(root: Path, path: str, size: Size | None, classes: list[int] | None) -> list[Problem]:
    """``classes`` is the entry of the image in the lists of ``ImageSets/Parts``, None if there is none."""

    def check(objects: list[PartObject]) -> list[Problem]:
        try:
            target = paint_parts(objects)
        except ValueError as error:
            return [make_problem('values out of range', path, f'human_parts: {error}')]
        problems: list[Problem] = []
        for mask in (*(item.mask for item in objects), *([] if target is None else [target])):
            problems = problems or check_size(path, mask.shape, size)
        found = class_list(objects)
        if classes is not None and found != classes:
            detail = f'the annotation has objects of the classes {found}, the list in ImageSets/Parts says {classes}'
            problems.append(make_problem('wrong list of people', path, detail, _LISTS_REMEDY))
        return problems

    return check_file(root, path, lambda: read_objects(root / path), check)


def _read_normals(path: Path) -> np.ndarray:
    return normals_from_bytes(read_colours(path))
