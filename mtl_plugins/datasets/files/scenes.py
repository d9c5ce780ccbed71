"""Rendered rooms for the exporters, which write them into the layouts of the real data sets."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.errors import UserError, UserFileExistsError
from mtl_plugins.utils.json_files import parse_json

from ..rendering import TASKS
from ..rooms import render_room, rooms_cache

MARKER = 'fixture.json'
FORMAT = 1


def render_scenes(
    split: str,
    count: int,
    size: tuple[int, int],
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    num_workers: int = 0,
) -> Iterator[dict[str, np.ndarray]]:
    """Rendered rooms with all targets, as :class:`~mtl_plugins.datasets.RoomsDataset` has them.

    They are rendered into the cache of that data set, so that several exports (and tests) share the work: an image of
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
    if root.exists() and not root.is_dir():
        raise UserFileExistsError(f'cannot export to {root}: it is a file; give the name of a new folder')
    if root.is_dir() and any(root.iterdir()) and read_fixture_marker(root) != _marker(dataset, counts, size, extra):
        raise UserFileExistsError(
            f'cannot export to {root}: the folder is not empty and does not hold the same export already. Give a new '
            'folder, or delete this one first if it is a stand-in you no longer need'
        )
    root.mkdir(parents=True, exist_ok=True)
    write_fixture_marker(root, dataset, counts, size, **extra)
    return root


def write_fixture_marker(
    root: str | os.PathLike, dataset: str, counts: Mapping[str, int], size: tuple[int, int], **extra: Any
) -> Path:
    """Say in ``<root>/fixture.json`` that the folder holds rendered rooms, how many and of what size.

    Args:
        root: Folder of the exported data set.
        dataset: Its name for ``tools/datasets/verify.py``.
        counts: Images per split.
        size: ``(H, W)`` of the images.
        **extra: What else the check of the layout wants to know.
    """
    path = Path(root) / MARKER
    content = dict(
        rendered_by='mtl_plugins',
        format=FORMAT,
        dataset=dataset,
        counts=dict(counts),
        size=list(map(int, size)),
        **extra,
    )
    path.write_text(json.dumps(content, indent=1) + '\n')
    return path


def _marker(dataset: str, counts: Mapping[str, int], size: tuple[int, int], extra: Mapping[str, Any]) -> dict[str, Any]:
    content = dict(rendered_by='mtl_plugins', format=FORMAT, dataset=dataset, counts=dict(counts), **extra)
    # As it comes back from the file (lists, not tuples), so that both can be compared.
    return json.loads(json.dumps({**content, 'size': [int(length) for length in size]}))


def read_fixture_marker(root: str | os.PathLike) -> dict[str, Any] | None:
    """The content of ``<root>/fixture.json``, or None where there is none of ours: then the data are the real ones."""
    try:
        content = parse_json((Path(root) / MARKER).read_bytes(), MARKER)
    except (OSError, ValueError):
        return None
    ours = isinstance(content, dict) and content.get('rendered_by') == 'mtl_plugins'
    whole = ours and isinstance(content.get('counts'), dict) and isinstance(content.get('size'), list)
    return content if whole and content.get('format') == FORMAT else None
