"""Rendered rooms in the layout of Taskonomy, for tests and for trying things out without the download."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mtl_plugins.datasets.taskonomy import encode, layout
from mtl_plugins.errors import UserError

from .room_targets import made_up_hole, room_targets
from .scenes import all_counts, prepare_export, render_scenes, write_png

NAMES_IN_FILES = {'segment_unsup25d': 'segment25d'}
"""Domains whose files carry another name than the folder, as some of the real ones do."""
_BUILDINGS_PER_SPLIT = 2


def export_taskonomy(
    root: str | os.PathLike,
    counts: Mapping[str, int] | None = None,
    size: tuple[int, int] = layout.SIZE,
    seed: int = 0,
    packaging: str = 'omnitools',
    buildings: Mapping[str, Sequence[str]] | None = None,
    mask_valid: bool = False,
    cache_dir: str | os.PathLike | None = None,
    num_workers: int = 0,
) -> Path:
    """Write rendered rooms as Taskonomy: same folders, file names, bit depths and codes, a split file with lone CRs.

    Every image has all eleven tasks and a hole in its geometry, with the codes that Taskonomy has for it. The images of
    a split belong to several buildings of the tiny list. An interrupted export can be called again.

    Args:
        root: The folder to become the dataset.
        counts: Images per split, by default 4, 2 and as many for testing as for validation.
        size: ``(H, W)`` of the images.
        seed: Seed of the rooms.
        packaging: How folders are nested, a key of :data:`mtl_plugins.datasets.taskonomy.layout.ORDERS`.
        buildings: Buildings per split, by default the first two of the tiny list.
        mask_valid: Also write the domain ``mask_valid``.
        cache_dir: Folder of all caches, where the rendered rooms are kept.
        num_workers: Processes that render.

    Returns:
        The folder.

    Raises:
        FileExistsError: If the folder holds anything else.
        ValueError: If an argument is out of range.
    """
    if packaging not in layout.ORDERS:
        raise UserError(
            f'export of taskonomy: packaging must be one of {", ".join(layout.ORDERS)}, but got {packaging!r}'
        )
    counts = all_counts(layout.NAME, {'test': (counts or {}).get('val', 2), **(counts or {})}, layout.SPLITS)
    extra = dict(packaging=packaging, seed=seed, mask_valid=mask_valid)
    root = prepare_export(root, layout.NAME, counts, size, **extra)
    rows = []
    for split, count in counts.items():
        names = (buildings or {}).get(split) or layout.TINY[split][: min(_BUILDINGS_PER_SPLIT, count)]
        rows += [(name, split) for name in names]
        for index, scene in enumerate(render_scenes(split, count, size, seed, cache_dir, num_workers)):
            targets = room_targets(scene, split, seed, index)
            # Neither contiguous nor in the order of their text, as the real numbers are.
            name = f'point_{9 + 7 * (index // len(names))}_view_{index % 3}_domain_{{}}.png'
            images = {layout.RGB: scene['img'], **{task: encode(task, target) for task, target in targets.items()}}
            if mask_valid:
                images[layout.MASK] = np.where(made_up_hole(tuple(size), seed, index), 0, 255).astype(np.uint8)
            for domain, image in images.items():
                folder = layout.ORDERS[packaging].format(domain=domain, building=names[index % len(names)])
                write_png(root / folder / name.format(NAMES_IN_FILES.get(domain, domain)), image)
    _write_splits(root / layout.SPLIT_FILE, rows)
    return root


def _write_splits(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """The list of buildings with the line ends of the original, which are lone carriage returns."""
    lines = [','.join(('id', *layout.SPLITS))]
    lines += [','.join((name, *('1' if split == own else '0' for own in layout.SPLITS))) for name, split in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes('\r'.join(lines).encode() + b'\r')
