"""Rendered rooms for the exporters, which write them into the layouts of the real data sets."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

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


def read_fixture_marker(root: str | os.PathLike) -> dict[str, Any] | None:
    """The content of ``<root>/fixture.json``, or None where there is none of ours: then the data are the real ones."""
    try:
        content = json.loads((Path(root) / MARKER).read_text())
    except (OSError, ValueError):
        return None
    ours = isinstance(content, dict) and content.get('rendered_by') == 'mtl_plugins'
    return content if ours and content.get('format') == FORMAT else None
