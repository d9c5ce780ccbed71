"""Rendered rooms in the layout of NYUD-v2, for tests and for trying things out without the archive."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mtl_plugins.datasets.nyud import layout
from mtl_plugins.datasets.nyud.decoding import encode_image, encode_target
from mtl_plugins.datasets.rendering import CLASSES as ROOMS
from mtl_plugins.task_specs import IGNORE_INDEX

from .scenes import all_counts, prepare_export, render_scenes

CLASSES = {
    'wall': 'wall', 'floor': 'floor', 'ceiling': 'ceiling', 'window': 'window', 'picture': 'picture', 'table': 'table',
    'chair': 'chair', 'cabinet': 'cabinet', 'sofa': 'sofa', 'lamp': 'lamp', 'ornament': 'otherprop',
    'person': 'person',
}  # fmt: skip
"""Class of Rooms -> class of NYUD-v2."""


def export_nyud(
    root: str | os.PathLike,
    counts: Mapping[str, int] | None = None,
    size: tuple[int, int] = layout.SIZE,
    seed: int = 0,
    packaging: str = 'atrc',
    cache_dir: str | os.PathLike | None = None,
    num_workers: int = 0,
) -> Path:
    """Write rendered rooms as NYUD-v2: same names, formats, data types and split files as in the archives.

    An interrupted export can be called again.

    Args:
        root: The folder to become the dataset (``NYUDv2`` or ``NYUD_MT`` in the archives).
        counts: Images per split, by default 4 and 2.
        size: ``(H, W)`` of the images.
        seed: Seed of the rooms.
        packaging: ``'atrc'``, ``'mtlp'`` or ``'astmt'``.
        cache_dir: Folder of all caches, where the rendered rooms are kept.
        num_workers: Processes that render.

    Returns:
        The folder.

    Raises:
        FileExistsError: If the folder holds anything else.
        ValueError: If an argument is out of range.
    """
    kind = layout.get_packaging(packaging)
    counts = all_counts(layout.NAME, counts, tuple(layout.COUNTS))
    root = prepare_export(root, layout.NAME, counts, size, packaging=packaging, seed=seed)
    for folder in (layout.SPLIT_FOLDER, layout.IMAGE_FOLDER, *layout.FOLDERS.values()):
        (root / folder).mkdir(exist_ok=True)
    ids = split_ids(counts)
    for split, count in counts.items():
        for sample, scene in zip(ids[split], render_scenes(split, count, size, seed, cache_dir, num_workers)):
            (root / kind.image_path(sample)).write_bytes(encode_image(scene['img'], kind.image))
            for task in layout.TASKS:
                target = export_classes(scene['gt_semseg']) if task == 'semseg' else scene[f'gt_{task}']
                (root / kind.target_path(task, sample)).write_bytes(encode_target(task, target, kind))
        (root / layout.split_path(split)).write_text(''.join(f'{sample}\n' for sample in ids[split]))
    return root


def export_classes(labels: np.ndarray) -> np.ndarray:
    """Class ids of Rooms as class ids of NYUD-v2 (0..39, 255 for not labelled); ``(H, W)`` uint8 both."""
    table = np.full(256, IGNORE_INDEX, np.uint8)
    for index, name in enumerate(ROOMS):
        table[index] = layout.CLASSES.index(CLASSES[name])
    return table[labels]


def split_ids(counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Ids in the form of the real ones: four digits from 0001, the splits interleaved."""
    total, val = sum(counts.values()), counts['val']
    ids: dict[str, list[str]] = {'train': [], 'val': []}
    for number in range(1, total + 1):
        is_val = number * val // total > (number - 1) * val // total
        ids['val' if is_val else 'train'].append(f'{number:04d}')
    return ids
