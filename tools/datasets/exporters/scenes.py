"""Rendered rooms for the exporters, which write them into the layouts of the real datasets."""

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mtl_plugins.datasets.files.provenance import FORMAT, read_provenance
from mtl_plugins.datasets.rendering import TASKS
from mtl_plugins.datasets.rooms import render_room, rooms_cache
from mtl_plugins.errors import UserError, UserFileExistsError

NOTES = 'fixture.json'
STAND_IN = 'rendered stand-in, not the real data'


def render_scenes(
    split: str,
    count: int,
    size: tuple[int, int],
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    num_workers: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
    """Rendered rooms with all targets, as :class:`~mtl_plugins.datasets.RoomsDataset` has them.

    They are rendered into the cache of that dataset, so that several exports (and tests) share the work: an image of
    425 x 560 takes about half a second the first time.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``.
        count: Number of rooms.
        size: ``(H, W)`` in pixels.
        seed: Seed of the rooms.
        cache_dir: Folder of all caches, see :func:`mtl_plugins.datasets.cache.default_cache_dir`.
        num_workers: Processes that render.

    Yields:
        ``img`` (RGB uint8) and ``gt_<task>``, see :func:`mtl_plugins.datasets.rendering.targets.render_targets`.
    """
    size = int(size[0]), int(size[1])
    cache = rooms_cache(split, count, size, seed, cache_dir)
    cache.fill(functools.partial(render_room, split, seed, size), f'Rendering rooms ({split})', num_workers)
    fields = ('img', *(f'gt_{task}' for task in TASKS))
    for index in range(count):
        yield cache.load(index, fields)


def all_counts(dataset: str, counts: Mapping[str, int] | None, splits: Sequence[str]) -> dict[str, int]:
    """Images per split, by default 4 to train on and 2 for validation.

    Raises:
        ValueError: If ``counts`` names other splits than there are.
    """
    counts = {'train': 4, 'val': 2, **(counts or {})}
    if set(counts) != set(splits):
        raise UserError(
            f'export of {dataset}: counts must name the splits {", ".join(splits)}, but got {", ".join(sorted(counts))}'
        )
    return counts


def write_png(path: Path, image: np.ndarray) -> None:
    """Write ``(H, W)`` or RGB ``(H, W, 3)``, 8 or 16 bits; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode('.png', image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1]))
    if not done:
        raise RuntimeError(f'OpenCV cannot encode {image.dtype} of shape {image.shape} as PNG')
    path.write_bytes(data.tobytes())


def prepare_export(
    root: str | os.PathLike, dataset: str, counts: Mapping[str, int], size: tuple[int, int], **extra: Any
) -> Path:
    """Make the folder of an export, marked as a rendered stand-in, and make sure that it cannot harm other files.

    Raises:
        FileExistsError: If the folder holds anything but an earlier export of the same parameters.
        ValueError: If a count or the size is out of range.
    """
    root = Path(root).expanduser()
    for split, count in counts.items():
        if count < 1:
            raise UserError(f'export of {dataset}: counts must be 1 or more, but got {count} for {split!r}')
    if len(size) != 2 or min(size) < 16:
        raise UserError(f'export of {dataset}: size must be (height, width) of 16 pixels or more, but got {size!r}')
    notes = _notes(dataset, counts, size, extra)
    if root.exists() and not root.is_dir():
        raise UserFileExistsError(f'cannot export to {root}: it is a file; give the name of a new folder')
    if root.is_dir() and any(root.iterdir()) and read_provenance(root) != notes:
        raise UserFileExistsError(
            f'cannot export to {root}: the folder is not empty and does not hold the same export already. Give a new '
            'folder, or delete this one first if it is a stand-in you no longer need'
        )
    root.mkdir(parents=True, exist_ok=True)
    (root / NOTES).write_text(json.dumps(notes, indent=1) + '\n')
    return root


def _notes(dataset: str, counts: Mapping[str, int], size: tuple[int, int], extra: Mapping[str, Any]) -> dict[str, Any]:
    """What tools/datasets/verify.py is to know of the folder."""
    content = dict(format=FORMAT, rendered_by='mtl_plugins', note=STAND_IN, dataset=dataset, counts=counts, size=size)
    return json.loads(json.dumps({**content, **extra}))  # as it comes back from the file (lists, not tuples)
