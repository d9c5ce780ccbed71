"""Part annotations, as in PASCAL-Part, of the people and the furniture in rendered rooms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from mtl_plugins.datasets.human_parts import HUMAN_PARTS
from mtl_plugins.datasets.pascal_context.classes import SEMSEG
from mtl_plugins.datasets.pascal_context.parts import KEY, Part, PartObject
from mtl_plugins.datasets.rendering import CLASSES

VOC_NAMES = {'table': 'diningtable', 'chair': 'chair', 'sofa': 'sofa', 'person': 'person'}
"""Class of Rooms -> class of VOC; all others are background there."""

_BLEED = 3
"""By how many pixels a torso reaches under the limbs, which are painted over it."""
# Part of ours -> names in PASCAL-Part with the share of the part's bounding box they cover (top, bottom, left, right).
# Of each pixel, the last name counts; that is why the whole comes first.
_WHOLE = (0.0, 1.0, 0.0, 1.0)
_PIECES = {
    'torso': {'torso': _WHOLE, 'neck': (0.0, 0.15, 0.2, 0.8)},
    'head': {
        'head': _WHOLE, 'hair': (0.0, 0.3, 0.0, 1.0), 'lear': (0.4, 0.7, 0.85, 1.0), 'rear': (0.4, 0.7, 0.0, 0.15),
        'lebrow': (0.3, 0.4, 0.6, 0.8), 'rebrow': (0.3, 0.4, 0.2, 0.4), 'leye': (0.4, 0.5, 0.6, 0.8),
        'reye': (0.4, 0.5, 0.2, 0.4), 'nose': (0.45, 0.65, 0.4, 0.6), 'mouth': (0.7, 0.8, 0.3, 0.7),
    },
    'upper_arm': {'{side}uarm': _WHOLE},
    'lower_arm': {'{side}larm': _WHOLE, '{side}hand': (0.7, 1.0, 0.0, 1.0)},
    'upper_leg': {'{side}uleg': _WHOLE},
    'lower_leg': {'{side}lleg': _WHOLE, '{side}foot': (0.75, 1.0, 0.0, 1.0)},
}  # fmt: skip


def scene_objects(semseg: np.ndarray, human_parts: np.ndarray, with_empty: bool = False) -> list[PartObject]:
    """The objects of a room with their parts.

    Every connected region of people is one object, with parts; the furniture of a kind is one object, without parts.

    Args:
        semseg: ``(H, W)``, classes of Rooms.
        human_parts: ``(H, W)``, parts of people, 255 everywhere if there is nobody.
        with_empty: Add an object with an empty mask, which the lists of ``ImageSets/Parts`` count as -1.
    """
    objects = []
    for room_name, name in VOC_NAMES.items():
        mask = semseg == CLASSES.index(room_name)
        if name == 'person':
            regions, count = ndimage.label(mask, np.ones((3, 3)))
            objects += [_person(regions == index, human_parts) for index in range(1, count + 1)]
        elif mask.any():
            objects.append(PartObject(name, SEMSEG.index(name), mask, ()))
    if with_empty:
        objects.append(PartObject('bottle', SEMSEG.index('bottle'), np.zeros(semseg.shape, bool), ()))
    return objects


def _person(mask: np.ndarray, human_parts: np.ndarray) -> PartObject:
    middle = np.nonzero(mask)[1].mean()
    columns = np.arange(mask.shape[1])
    parts = []
    for part, pieces in _PIECES.items():
        whole = mask & (human_parts == HUMAN_PARTS.index(part))
        sided = '{side}' in next(iter(pieces))
        # Seen from the front, the left side of a person is on the right.
        for side, half in (('l', columns >= middle), ('r', columns < middle)) if sided else (('', columns >= 0),):
            parts += _cut(whole & half, pieces, side, mask if part == 'torso' else None)
    return PartObject('person', SEMSEG.index('person'), mask, tuple(parts))


def _cut(whole: np.ndarray, pieces: dict[str, tuple[float, ...]], side: str, spread: np.ndarray | None) -> list[Part]:
    """Cut a part into named pieces; empty ones are left out. The whole one may spread a little over ``spread``."""
    if not whole.any():
        return []
    rows, columns = (np.flatnonzero(whole.any(axis)) for axis in (1, 0))
    (top, height), (left, width) = ((found[0], found[-1] + 1 - found[0]) for found in (rows, columns))
    parts = []
    for name, (start, stop, begin, end) in pieces.items():
        box = np.zeros_like(whole)
        box[
            top + round(start * height) : top + round(stop * height),
            left + round(begin * width) : left + round(end * width),
        ] = True
        piece = whole & box
        if (start, stop, begin, end) == _WHOLE and spread is not None:
            piece = ndimage.binary_dilation(whole, iterations=_BLEED) & spread
        if piece.any():
            parts.append(Part(name.format(side=side), piece))
    return parts


def to_struct(image_name: str, objects: Sequence[PartObject]) -> dict[str, np.ndarray]:
    """What :func:`scipy.io.savemat` takes, in the structure of PASCAL-Part."""
    stored = [
        {
            'class': item.name,
            'class_ind': np.array([[item.class_index]], np.uint8),
            'mask': item.mask.astype(np.uint8),
            'parts': _struct_row([{'part_name': part.name, 'mask': part.mask.astype(np.uint8)} for part in item.parts]),
        }
        for item in objects
    ]
    return {KEY: _struct_row([{'imname': image_name, 'objects': _struct_row(stored)}])}


def _struct_row(structs: Sequence[dict[str, Any]]) -> np.ndarray:
    """A ``(1, n)`` struct array; without elements it is an empty matrix, as in MATLAB."""
    if not structs:
        return np.zeros((0, 0))
    row = np.empty((1, len(structs)), dtype=[(name, object) for name in structs[0]])
    for index, struct in enumerate(structs):
        for name, value in struct.items():
            row[name][0, index] = value
    return row
