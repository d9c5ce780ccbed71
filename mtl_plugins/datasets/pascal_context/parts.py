"""The part annotations of PASCAL-Part: nested structs of MATLAB, read with care, and our map of six parts of people.

``anno`` is one struct ``(imname, objects)``; an object is ``(class, class_ind, mask, parts)`` and a part
``(part_name, mask)``. Fields are found by name, or by position where a file names them otherwise. A list of structs
has any shape in these files: one row or column, a lone struct, a cell of structs, or an empty array for none.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..files.reading import fail, read_mat
from .classes import PART_IDS, PERSON

KEY = 'anno'
NO_OBJECT = -1
"""Stands in the lists of ``ImageSets/Parts`` for an object whose mask is empty."""
_EXPECTED = 'a part annotation as in PASCAL-Part (struct anno with imname and objects)'


@dataclass(frozen=True)
class Part:
    """One part of an object: its name in PASCAL-Part and its mask, ``(H, W)``, non-zero inside."""

    name: str
    mask: np.ndarray


@dataclass(frozen=True)
class PartObject:
    """An object with its parts in the order of the file, which is the order of painting; there may be none."""

    name: str
    class_index: int
    mask: np.ndarray
    parts: tuple[Part, ...]


def read_objects(path: str | os.PathLike) -> list[PartObject]:
    """Read all objects of a part annotation; there may be none.

    Raises:
        UnreadableFileError: If the file is damaged or does not hold such an annotation.
    """
    anno = read_mat(path, KEY)
    try:
        return objects_of(anno)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        fail(path, _EXPECTED, f'another structure ({error})')


def objects_of(anno: Any) -> list[PartObject]:
    """The objects of an annotation as :func:`scipy.io.loadmat` gives it, with or without ``simplify_cells``.

    Raises:
        ValueError: If the structure is another one.
    """
    records = _records(anno)
    if len(records) != 1:
        raise ValueError(f'expected one annotation, found {len(records)}')
    return [
        PartObject(
            _text(_field(record, 'class', 0)),
            _integer(_field(record, 'class_ind', 1)),
            _mask(_field(record, 'mask', 2)),
            tuple(
                Part(_text(_field(part, 'part_name', 0)), _mask(_field(part, 'mask', 1)))
                for part in _records(_field(record, 'parts', 3))
            ),
        )
        for record in _records(_field(records[0], 'objects', 1))
    ]


def paint_parts(objects: Iterable[PartObject]) -> np.ndarray | None:
    """The map of the six parts of people (:data:`..human_parts.HUMAN_PARTS`).

    The parts of all people are painted over each other in the order of the file; 0 is everything else.

    Returns:
        ``(H, W)`` uint8, or None if there is no person with parts.

    Raises:
        ValueError: If a person has a part of an unknown name, or the masks differ in size or have none.
    """
    target = None
    for item in objects:
        if item.class_index != PERSON:
            continue
        for part in item.parts:
            if part.name not in PART_IDS:
                raise ValueError(f'a person has a part called {part.name!r}; known are {", ".join(PART_IDS)}')
            if not part.mask.size:
                raise ValueError(f'the mask of the part {part.name!r} of a person has no pixels')
            if target is None:
                target = np.zeros(part.mask.shape, np.uint8)
            if part.mask.shape != target.shape:
                raise ValueError(f'masks of different sizes, {target.shape} and {part.mask.shape}')
            target[part.mask != 0] = PART_IDS[part.name]
    return target


def read_part_map(path: str | os.PathLike) -> np.ndarray | None:
    """Read an annotation and :func:`paint_parts`.

    Raises:
        UnreadableFileError: If that is not possible.
    """
    objects = read_objects(path)
    try:
        return paint_parts(objects)
    except ValueError as error:
        fail(path, _EXPECTED, str(error))


def class_list(objects: Iterable[PartObject]) -> list[int]:
    """The entry of an image in the lists of ``ImageSets/Parts``: class id per object, -1 if its mask is empty."""
    return [item.class_index if item.mask.any() else NO_OBJECT for item in objects]


def _records(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, (list, tuple)):
        value = np.asarray(value)
        if value.size == 0:
            return []
        value = value.ravel()
        if value.dtype.names is not None:
            return list(value)
        if value.dtype != object:
            raise ValueError(f'expected a struct, found {value.dtype} of shape {value.shape}')
    return [record for entry in value for record in _records(entry)]


def _field(record: Any, name: str, position: int) -> Any:
    names = list(record) if isinstance(record, dict) else record.dtype.names
    return record[name if name in names else names[position]]


def _single(value: Any) -> Any:
    value = np.asarray(value).ravel()
    if value.size != 1:
        raise ValueError(f'expected one value, found {value.size}')
    return value.item()


def _text(value: Any) -> str:
    value = _single(value)
    if not isinstance(value, str):
        raise ValueError(f'expected a name, found {value!r}')
    return value


def _integer(value: Any) -> int:
    value = _single(value)
    if isinstance(value, str) or int(value) != value:
        raise ValueError(f'expected a class id, found {value!r}')
    return int(value)


def _mask(value: Any) -> np.ndarray:
    value = np.asarray(value)
    if value.ndim != 2 or value.dtype.kind not in 'biuf':
        raise ValueError(f'expected a mask (H, W), found {value.dtype} of shape {value.shape}')
    return value
