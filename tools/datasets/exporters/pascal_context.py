"""Rendered rooms in the layout of PASCAL-Context: a stand-in to try things out with, and the fixture of the tests."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from mtl_plugins.datasets.files import normals_to_bytes
from mtl_plugins.datasets.pascal_context import layout
from mtl_plugins.datasets.pascal_context.classes import SEMSEG, voc_palette
from mtl_plugins.datasets.pascal_context.decoding import LABEL_MAP
from mtl_plugins.datasets.pascal_context.parts import class_list
from mtl_plugins.datasets.rendering import CLASSES, UNLABELLED
from mtl_plugins.datasets.rooms import render_room
from mtl_plugins.task_specs import IGNORE_INDEX

from .mannequins import VOC_NAMES, scene_objects, to_struct
from .scenes import all_counts, prepare_export, render_scenes

CONTEXT_IDS = {
    'wall': 440, 'floor': 158, 'ceiling': 68, 'window': 454, 'picture': 287, 'table': 397, 'chair': 72, 'cabinet': 46,
    'sofa': 368, 'lamp': 232, 'ornament': 267, 'person': 284,
}  # fmt: skip
"""Class of Rooms -> id in LabelMap; a lamp is a "light" there."""
CONTEXT_UNKNOWN = 431
"""The id "unknown", for what Rooms does not label."""

_QUALITY = 95
_YEARS = {'train': 2008, 'val': 2009}
_PORTRAIT_SEED = 1
_SEEDS, _SEED_STEP = 50, 100
_PARTS_WANTED = 5


def export_pascal_context(
    root: str | os.PathLike,
    counts: Mapping[str, int] | None = None,
    size: tuple[int, int] = (375, 500),
    seed: int = 0,
    part_lists: bool = True,
    cache_dir: str | os.PathLike | None = None,
    num_workers: int = 0,
) -> Path:
    """Write rendered rooms the way the archives of PASCAL-Context are written.

    Images are landscape, portrait, and of odd smaller sizes, as in the real dataset. The labels of every other image
    are in the fallback folder of semantic labels, and the first image of a split shows people. What Rooms does not
    label is void (255) for VOC and "unknown" in LabelMap; normals are stored everywhere, and it is up to the loader to
    mask them. An interrupted export can be called again.

    Args:
        root: The folder to become the dataset (``PASCALContext`` or ``PASCAL_MT`` in the archives).
        counts: Images per split, by default 4 to train on and 2 for validation.
        size: ``(H, W)`` of the landscape images.
        seed: Seed of the rooms.
        part_lists: Whether to write ``ImageSets/Parts``, which some archives may lack.
        cache_dir: Folder of all caches, for the rendered rooms.
        num_workers: Processes that render.

    Returns:
        The folder.

    Raises:
        ValueError: If an argument is out of its range.
        FileExistsError: If the folder holds anything else.
    """
    counts = all_counts(layout.NAME, counts, layout.SPLITS)
    folder = prepare_export(root, layout.NAME, counts, size, seed=seed, part_lists=part_lists)
    lists = ('ImageSets/Context', *(['ImageSets/Parts'] if part_lists else ()))
    for name in (*lists, *layout.DATA_FOLDERS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        scenes = _scenes(split, count, size, seed, cache_dir, num_workers)
        classes = {}
        for index, scene in enumerate(scenes):
            identifier = f'{_YEARS[split]}_{index + 1:06d}'
            classes[identifier] = _write_sample(folder, identifier, index, scene)
        (folder / layout.split_file(split)).write_text('\n'.join(classes) + '\n')
        if part_lists:
            (folder / layout.part_list_file(split)).write_text(json.dumps(classes))
    return folder


def _scenes(
    split: str, count: int, size: tuple[int, int], seed: int, cache_dir: str | os.PathLike | None, num_workers: int
) -> Iterator[dict[str, np.ndarray]]:
    """Rooms of varied sizes: landscape, portrait, and cropped to odd sizes in turn."""
    height, width = size
    portraits = render_scenes(split, (count + 1) // 3, (width, height), seed + _PORTRAIT_SEED, cache_dir, num_workers)
    seed = _seed_with_people(split, size, seed)
    landscapes = render_scenes(split, count - (count + 1) // 3, size, seed, cache_dir, num_workers)
    for index in range(count):
        scene = next(portraits if index % 3 == 1 else landscapes)
        if index % 3 == 2:
            rows, columns = (height * 8 // 9) | 1, (width * 12 // 13) | 1
            scene = {key: np.ascontiguousarray(value[:rows, :columns]) for key, value in scene.items()}
        yield scene


def _seed_with_people(split: str, size: tuple[int, int], seed: int) -> int:
    """A seed whose first room shows people, so that a split of one image has something of every task."""
    scale = max(1 / 8, 32 / min(size))
    small = round(size[0] * scale), round(size[1] * scale)
    for step in range(_SEEDS):
        parts = render_room(split, seed + step * _SEED_STEP, small, 0)['gt_human_parts']
        if len(np.unique(parts)) > _PARTS_WANTED:
            return seed + step * _SEED_STEP
    return seed


def _write_sample(folder: Path, identifier: str, index: int, scene: Mapping[str, np.ndarray]) -> list[int]:
    """Write all files of an image; returns its entry in the lists of parts."""
    in_voc12 = frozenset([f'{identifier}.png'] if index % 2 == 0 else ())
    files = {task: [folder / path for path in paths] for task, paths in layout.files_of(identifier, in_voc12).items()}
    Image.fromarray(scene['img']).save(folder / layout.image_file(identifier), quality=_QUALITY)
    write_palette_png(files['semseg'][0], _VOC[scene['gt_semseg']])
    Image.fromarray(scene['gt_sal'] * np.uint8(255)).save(files['sal'][0])
    Image.fromarray(normals_to_bytes(scene['gt_normals'])).save(files['normals'][0])
    scipy.io.savemat(files['edge'][0], {LABEL_MAP: _CONTEXT[scene['gt_semseg']]}, do_compression=True)
    objects = scene_objects(scene['gt_semseg'], scene['gt_human_parts'], with_empty=index % 2 == 1)
    scipy.io.savemat(files['human_parts'][0], to_struct(identifier, objects), do_compression=True)
    return class_list(objects)


def write_palette_png(path: Path, indices: np.ndarray) -> None:
    """Write an index map the way VOC does: as a PNG with a palette, in which 255 is a pale line colour."""
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([value for colour in voc_palette(IGNORE_INDEX + 1) for value in colour])
    image.save(path)


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Class id of Rooms -> id in VOC, and in LabelMap."""
    voc = np.zeros(256, np.uint8)
    context = np.zeros(256, np.uint16)
    for index, name in enumerate(CLASSES):
        voc[index] = SEMSEG.index(VOC_NAMES.get(name, 'background'))
        context[index] = CONTEXT_IDS[name]
    voc[UNLABELLED], context[UNLABELLED] = UNLABELLED, CONTEXT_UNKNOWN
    return voc, context


_VOC, _CONTEXT = _tables()
