"""How the files of PASCAL-Context become arrays."""

import os
from typing import Any

import cv2
import numpy as np

from mtl_plugins.task_specs import IGNORE_INDEX

from ..cache import DerivedCache
from ..files.binary import marked, mixed_codes
from ..files.normals import normals_from_bytes
from ..files.reader import SampleReader
from ..files.reading import fail, read_colours, read_indices
from ..files.sizes import check_aspect
from ..files.source import OUT_OF_RANGE
from ..human_parts import ignored_without_parts
from .classes import SEMSEG
from .decoding import EDGE_RULES, mask_normals, read_label_map
from .parts import read_part_map


class PascalContextReader(SampleReader):
    """Reads the image and the targets of one sample.

    * ``semseg``: 0 background, 1..20 the classes of VOC, 255 not labelled;
    * ``human_parts``: 0 background, 1..6; 255 everywhere in images without people;
    * ``sal``: 0 or 1;
    * ``normals``: unit vectors where LabelMap shows one of :data:`.classes.NORMALS_CLASSES`, elsewhere zero;
    * ``edge``: 0 or 1, the thinned borders in LabelMap. They are computed each time, which takes 1 ms longer
      than to read them from a cache.

    To read a part annotation takes 15 to 30 ms, most of it for the structs of MATLAB, so maps of parts are kept as
    small PNGs in the cache of derived data from the first time on.

    Args:
        cache: The cache of derived data, for maps of parts.
        edge_rule: A key of :data:`.decoding.EDGE_RULES`.
    """

    def __init__(self, cache: DerivedCache, edge_rule: str = 'laplacian') -> None:
        self.cache = cache
        self.edge_rule = edge_rule

    def read_target(self, task: str, results: dict[str, Any]) -> np.ndarray:
        """See :class:`.SampleReader`; ``results`` also tells by ``person`` (False) that nobody is in the image."""
        files = results['files'][task]
        if task == 'human_parts':
            return self._human_parts(files[0], results)
        if task == 'edge':
            return read_edges(*files, self.edge_rule)
        return _READ[task](*files)

    def _human_parts(self, path: str, results: dict[str, Any]) -> np.ndarray:
        if results.get('person') is False:
            return np.full(results['img_shape'], IGNORE_INDEX, np.uint8)
        parts = self.cache.get(_key(path, results), lambda: _part_map(path))
        return parts if parts.size > 1 else np.full(results['img_shape'], IGNORE_INDEX, np.uint8)


def read_semseg(path: str | os.PathLike) -> np.ndarray:
    """The map of VOC's classes, ``(H, W)`` uint8 with 255 for "not labelled"."""
    labels = read_indices(path)
    bad = labels[(labels >= len(SEMSEG)) & (labels != IGNORE_INDEX)]
    if bad.size:
        expected = f'class ids 0..{len(SEMSEG) - 1} or {IGNORE_INDEX} (not labelled)'
        fail(path, expected, f'id {bad.max()} in {bad.size} pixels', OUT_OF_RANGE)
    return labels


def read_normals(path: str | os.PathLike, label_map: str | os.PathLike) -> np.ndarray:
    """Unit normals, ``(H, W, 3)`` float32, zero where the class in ``label_map`` has none."""
    normals, labels = normals_from_bytes(read_colours(path)), read_label_map(label_map)
    if labels.shape != normals.shape[:2]:
        check_aspect(labels.shape, normals.shape[:2], f'LabelMap of {label_map}', (), os.fspath(path))
        labels = cv2.resize(labels, normals.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return mask_normals(normals, labels)


def read_edges(label_map: str | os.PathLike, rule: str = 'laplacian') -> np.ndarray:
    """Edges by one of :data:`.decoding.EDGE_RULES`, ``(H, W)`` uint8, 0 or 1."""
    return EDGE_RULES[rule](read_label_map(label_map))


def read_saliency(path: str | os.PathLike) -> np.ndarray:
    """Saliency, ``(H, W)`` uint8, 0 or 1: where more than half of 255 is stored, or 1 in a map of 0 and 1."""
    values = read_indices(path)
    found = mixed_codes(values)
    if found:
        fail(path, 'saliency of 0 to 255 (or 0 and 1)', found, OUT_OF_RANGE)
    return marked(values)


_READ = {'semseg': read_semseg, 'normals': read_normals, 'sal': read_saliency}


def _part_map(path: str) -> np.ndarray:
    """The map to be cached; one pixel stands for a whole image that says nothing."""
    target = read_part_map(path)
    return np.full((1, 1), IGNORE_INDEX, np.uint8) if target is None else ignored_without_parts(target)


def _key(path: str, results: dict[str, Any]) -> str:
    """Key of a map of parts; it changes with the annotation, so that a repaired file is read again."""
    stat = os.stat(path)
    return f'human_parts/{results["sample_id"]}-{stat.st_size:x}-{stat.st_mtime_ns:x}.png'
