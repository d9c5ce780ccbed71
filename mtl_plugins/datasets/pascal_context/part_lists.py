"""Which images show people: from the lists of the archive, or from the part annotations where these are no use."""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.logging import print_log

from mtl_plugins.errors import UserError
from mtl_plugins.utils.json_files import parse_json

from ..cache import DerivedCache, fingerprint
from .classes import PERSON
from .layout import HUMAN_PARTS, part_list_file
from .parts import class_list, read_objects

PartLists = dict[str, list[int]]
"""Id of an image -> class id per object, or -1 for an object with an empty mask."""


def read_part_lists(root: Path, split: str) -> PartLists:
    """Read ``ImageSets/Parts/<split>.txt``.

    Raises:
        FileNotFoundError: If it is not there, which is no fault: some archives lack it.
        ValueError: If it is damaged.
    """
    path = root / part_list_file(split)
    try:
        lists = parse_json(path.read_bytes(), str(path))
    except ValueError as error:
        raise UserError(f'{path}: expected JSON with the classes of the objects per image, but found {error}') from None
    right = isinstance(lists, dict) and all(
        isinstance(classes, list) and all(isinstance(value, int) for value in classes) for classes in lists.values()
    )
    if not right:
        raise UserError(f'{path}: expected JSON with a list of integers per image id, but found something else')
    return lists


def archive_lists(root: Path, split: str, ids: Sequence[str]) -> PartLists | None:
    """The lists of the archive, or None if they are absent, damaged or not about exactly the images ``ids``."""
    try:
        lists = read_part_lists(root, split)
    except FileNotFoundError:
        return None
    except ValueError as error:
        print_log(f'{error}. It is not used', logger='current', level=30)
        return None
    if set(lists) == set(ids):
        return lists
    print_log(
        f'{root / part_list_file(split)} lists other images than the split ({len(lists)} instead of {len(set(ids))}) '
        'and is not used; the annotations themselves are',
        logger='current', level=30,
    )  # fmt: skip
    return None


def rebuilt_lists(root: Path, split: str, ids: Sequence[str], cache: DerivedCache, num_workers: int = 0) -> PartLists:
    """The same lists from the annotations of all images: minutes for the real dataset, once, under a progress bar.

    They are kept in ``cache``; of several processes, one does the work. Images without
    annotation are not in the result.

    Args:
        root: Folder of the dataset.
        split: Name of the split.
        ids: Its images.
        cache: Where the lists are kept.
        num_workers: Processes that read; 0 reads in this one.

    Raises:
        UnreadableFileError: If an annotation is damaged.
    """
    folder = root / HUMAN_PARTS
    present = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    changed = folder.stat().st_mtime_ns if present else 0
    annotated = [identifier for identifier in ids if f'{identifier}.mat' in present]
    stamp = fingerprint(dict(ids=annotated, changed=changed))

    def build() -> PartLists:
        keys = {identifier: f'part_lists/{stamp}/{identifier}.json' for identifier in annotated}
        read = functools.partial(_classes_of_key, folder)
        cache.fill(list(keys.values()), read, f'Part annotations ({split})', num_workers)
        return {identifier: cache.get(key, functools.partial(read, key)) for identifier, key in keys.items()}

    return cache.get(f'part_lists/{split}-{stamp}.json', build)


def people(lists: Mapping[str, Sequence[int]]) -> dict[str, bool]:
    """Whether there are people in an image, per id; what is not in ``lists`` is not known."""
    return {identifier: PERSON in classes for identifier, classes in lists.items()}


def _classes_of_key(folder: Path, key: str) -> list[int]:
    return class_list(read_objects(folder / f'{Path(key).stem}.mat'))
