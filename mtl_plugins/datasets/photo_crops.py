"""Which crops are cut from which photograph, and how the three splits are kept apart."""

import hashlib
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtl_plugins.errors import UserError

SPLITS = ('train', 'val', 'test')
HELD_OUT = 0.15
"""Share of a photograph's length (split by region) that validation and test get each, at least one crop."""
HELD_OUT_PHOTOS = 0.1
"""Share of the photographs (split by photo) that validation and test get each, at least one photograph."""
MAX_ENLARGEMENT = 2.0


@dataclass(frozen=True)
class Crop:
    """A window of a resized photograph.

    Args:
        name: Name of the photograph.
        number: Number of the crop in its photograph.
        size: (height, width) that the photograph is resized to before the crop is cut.
        top: First row.
        left: First column.
    """

    name: str
    number: int
    size: tuple[int, int]
    top: int
    left: int


def working_size(
    size: tuple[int, int], crop: tuple[int, int], photo_side: int, regions: bool
) -> tuple[int, int] | None:
    """Size that a photograph is resized to, so that crops show more than a patch of plain texture.

    The shorter side is brought down to ``photo_side``. Where the photograph is too small for the crop, or with
    ``regions`` for three crops side by side along its longer axis, it is enlarged instead.

    Args:
        size: (height, width) of the photograph.
        crop: (height, width) of a crop.
        photo_side: Upper bound of the shorter side.
        regions: Whether the photograph is shared by all three splits.

    Returns:
        The new (height, width), or None if the photograph would have to be enlarged more than twice.
    """
    needed = list(crop)
    if regions:
        axis = split_axis(size)
        needed[axis] *= len(SPLITS)
    scale = max(min(1.0, photo_side / min(size)), *(want / have for want, have in zip(needed, size)))
    if scale > MAX_ENLARGEMENT:
        return None
    return tuple(max(round(have * scale), want) for have, want in zip(size, needed))


def split_axis(size: tuple[int, int]) -> int:
    """Axis along which a photograph is divided: the longer one."""
    return 0 if size[0] > size[1] else 1


def region(name: str, size: tuple[int, int], crop: tuple[int, int], split: str) -> tuple[slice, slice]:
    """The part of a photograph that belongs to ``split``: one of three bands that share no pixel.

    The order of the bands depends on the photograph's name, so that the sky is not always in the same split.
    """
    axis = split_axis(size)
    length, held_out = size[axis], max(round(HELD_OUT * size[axis]), crop[axis])
    lengths = dict(train=length - 2 * held_out, val=held_out, test=held_out)
    order = sorted(SPLITS, key=lambda s: hashlib.sha256(os.fsencode(f'{s}:{name}')).digest())
    start = sum(lengths[s] for s in order[: order.index(split)])
    area = [slice(0, size[0]), slice(0, size[1])]
    area[axis] = slice(start, start + lengths[split])
    return tuple(area)


def photos_of_split(names: Sequence[str], split: str, seed: int) -> list[str]:
    """The photographs that belong to ``split`` when photographs are dealt out whole, in the order of ``names``.

    Raises:
        ValueError: If there are fewer photographs than splits.
    """
    if len(names) < len(SPLITS):
        raise UserError(
            f"split_by='photo' needs at least {len(SPLITS)} photographs, but found {len(names)}; use split_by='region'"
        )
    held_out = max(round(HELD_OUT_PHOTOS * len(names)), 1)
    shuffled = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(f'{seed}:{name}')).digest())
    parts = dict(val=shuffled[:held_out], test=shuffled[held_out : 2 * held_out], train=shuffled[2 * held_out :])
    chosen = set(parts[split])
    return [name for name in names if name in chosen]


def crop_generator(seed: int, name: str, split: str, number: int, purpose: int = 0) -> np.random.Generator:
    """A generator that belongs to one crop; files that come or go do not change it."""
    entropy = (seed, zlib.crc32(os.fsencode(name)), SPLITS.index(split), number, purpose)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def draw_crops(
    name: str,
    size: tuple[int, int],
    area: tuple[slice, slice],
    crop: tuple[int, int],
    count: int,
    split: str,
    seed: int,
) -> list[Crop]:
    """Draw ``count`` crops uniformly inside ``area`` of a photograph of (height, width) ``size``."""
    crops = []
    for number in range(count):
        rng = crop_generator(seed, name, split, number)
        corner = []
        for side, wanted in zip(area, crop):
            free = side.stop - side.start - wanted
            corner.append(side.start + math.floor(rng.random() * (free + 1)))
        crops.append(Crop(name, number, size, *corner))
    return crops
