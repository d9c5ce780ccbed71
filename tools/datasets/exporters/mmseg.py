"""Rendered rooms as images, class maps and depth maps in MMSegmentation's usual folders."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .scenes import all_counts, prepare_export, render_scenes, write_png

NAME = 'mmseg'
SPLITS = ('train', 'val')
SIZE = (128, 128)
IMAGES, CLASS_MAPS, DEPTH_MAPS = 'img_dir', 'ann_dir', 'depth_dir'
DEPTH_UNITS_PER_METRE = 1000
"""What ``LoadDepthAnnotation(depth_rescale_factor=1e-3)`` turns back into metres."""


def export_mmseg(
    root: str | os.PathLike,
    counts: Mapping[str, int] | None = None,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    num_workers: int = 0,
) -> Path:
    """Write rendered rooms for ``BaseSegDataset``: ``<folder>/<split>/<name>.png`` with equal names in all folders.

    ``img_dir`` holds RGB images, ``ann_dir`` class ids (uint8, 255 = not labelled) and ``depth_dir`` depth in
    millimetres (uint16, 0 = unknown), as ``LoadDepthAnnotation(depth_rescale_factor=1e-3)`` expects it.

    An interrupted export can be called again.

    Args:
        root: The folder to become the dataset.
        counts: Images per split, by default 4 to train on and 2 for validation.
        size: ``(H, W)`` of the images.
        seed: Seed of the rooms.
        cache_dir: Folder of all caches, where the rendered rooms are kept.
        num_workers: Processes that render.

    Returns:
        The folder.

    Raises:
        FileExistsError: If the folder holds anything else.
        ValueError: If an argument is out of range.
        OSError: If a file cannot be written.
    """
    counts = all_counts(NAME, counts, SPLITS)
    root = prepare_export(root, NAME, counts, size, seed=seed)
    for split, count in counts.items():
        for index, scene in enumerate(render_scenes(split, count, size, seed, cache_dir, num_workers)):
            name = f'room_{index:05d}.png'
            write_png(root / IMAGES / split / name, scene['img'])
            write_png(root / CLASS_MAPS / split / name, scene['gt_semseg'])
            write_png(root / DEPTH_MAPS / split / name, depth_to_png(scene['gt_depth']))
    return root


def depth_to_png(depth: np.ndarray) -> np.ndarray:
    """Depth in metres, ``(H, W)`` float with 0 or NaN for unknown, in whole millimetres as uint16."""
    units = np.nan_to_num(depth, nan=0.0) * DEPTH_UNITS_PER_METRE
    return np.clip(np.rint(units), 0, np.iinfo(np.uint16).max).astype(np.uint16)
