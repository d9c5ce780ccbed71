"""The layout of NYUD-v2 from the official source of NYU Depth v2."""

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.errors import UserError, UserRuntimeError
from mtl_plugins.utils.files import path_to_write, write_whole
from mtl_plugins.utils.parallel import in_processes, tracked
from mtl_plugins.version import __version__

from ..files.provenance import FORMAT, PROVENANCE, read_provenance
from . import layout
from .decoding import encode_image, encode_target
from .geometry import KINECT, fit_normals, label_borders
from .sources import Source, official_tables

FULL_SIZE = layout.FULL_SIZE
TOP, LEFT = 45, 41
"""Where the archives' 425 x 560 pixels begin, about: no publication states it. The border outside has no data."""
DERIVED = {
    'normals': 'planes fitted to the (filled-in) depth of this source',
    'edge': 'borders of the 40-class labels of this source',
}
NOTE = (
    'normals and edges are derived here; published tables rest on the normals and instance edges of other archives, so '
    'these two tasks cannot be compared with them'
)


def prepare_nyuv2(source: Source, out: str | os.PathLike, jobs: int = 1) -> dict[str, Any]:
    """Write the labelled images of NYU Depth v2 as :class:`~mtl_plugins.datasets.NYUDv2Dataset` reads them.

    The packaging is ``'atrc'``: images, classes, normals and edges as PNG, depth as ``.npy``; split files by the
    official split. The border without data is cut, as in the archives. Nothing is written into the source. An
    interrupted call goes on where it stopped: a sample whose image is there is complete.

    Args:
        source: Where the images come from, see :func:`mtl_plugins.datasets.nyud.sources.open_source`.
        out: A new folder, or one that an earlier call left incomplete.
        jobs: Processes.

    Returns:
        The content of ``provenance.json``.

    Raises:
        UserError: If the folder holds anything else, or a file of the source is damaged.
    """
    out = path_to_write(out, 'out')
    kind = layout.PACKAGINGS['atrc']
    ids = {'train': [], 'val': []}
    test = set(official_tables()['test_ids'])
    for number in source.numbers:
        ids['val' if number in test else 'train'].append(f'{number:04d}')
    scale = source.size[0] / FULL_SIZE[0]
    size = tuple(round(length * scale) for length in layout.SIZE)
    provenance = dict(
        format=FORMAT,
        prepared_by=f'mtl_plugins {__version__}',
        dataset=layout.NAME,
        source=source.describe(),
        counts={split: len(numbers) for split, numbers in ids.items()},
        size=list(size),
        derived=DERIVED,
        note=NOTE,
    )
    _claim(out, provenance, source)
    for folder in (layout.IMAGE_FOLDER, *layout.FOLDERS.values()):
        (out / folder).mkdir(exist_ok=True)
    todo = [number for number in source.numbers if not (out / kind.image_path(f'{number:04d}')).exists()]
    died = UserRuntimeError('a process died, perhaps for lack of memory; start again with fewer --jobs, it goes on')
    work = in_processes(functools.partial(_prepare_sample, source, out, size, scale), todo, jobs, died)
    for _ in tracked(work, 'preparing', len(todo)):
        pass
    (out / layout.SPLIT_FOLDER).mkdir(exist_ok=True)
    # Last: without them the folder is not taken for a dataset.
    for split, numbers in ids.items():
        (out / layout.split_path(split)).write_text(''.join(f'{number}\n' for number in numbers))
    return provenance


def _claim(out: Path, provenance: dict[str, Any], source: Source) -> None:
    """Make the folder and say what it is, unless it is something else already."""
    if out.exists() and not out.is_dir():
        raise UserError(f'cannot write to {out}: it is a file; give the name of a new folder')
    if out.resolve() == source.path.resolve() or source.path.resolve() in out.resolve().parents:
        raise UserError(f'cannot write to {out}: it lies in the source {source.path}, which is left as it is')
    if out.is_dir() and any(out.iterdir()):
        earlier = read_provenance(out)
        differs = [key for key in provenance if earlier is None or earlier.get(key) != provenance[key]]
        if differs:
            found = 'other files' if earlier is None else f'data prepared with another {", ".join(differs)}'
            raise UserError(f'cannot write to {out}: it holds {found}. Give a new folder, or delete this one first')
    out.mkdir(parents=True, exist_ok=True)
    (out / PROVENANCE).write_text(json.dumps(provenance, indent=1) + '\n')


def _prepare_sample(source: Source, out: Path, size: tuple[int, int], scale: float, number: int) -> None:
    top, left = round(TOP * scale), round(LEFT * scale)
    inside = slice(top, top + size[0]), slice(left, left + size[1])
    image, depth, classes = (array[inside] for array in source.read(number))
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0)
    targets = {
        'semseg': classes - np.uint8(1),  # 0, not labelled, wraps around to 255
        'depth': depth,
        'normals': fit_normals(depth, KINECT.scaled(scale).cropped(top, left)),
        'edge': label_borders(classes),
    }
    kind, sample = layout.PACKAGINGS['atrc'], f'{number:04d}'
    for task, target in targets.items():
        write_whole(out / kind.target_path(task, sample), encode_target(task, target, kind))
    write_whole(out / kind.image_path(sample), encode_image(image, kind.image))
