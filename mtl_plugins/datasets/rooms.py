"""The embedded dataset: rendered rooms with exact targets for eleven tasks, made on first use."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATASETS
from mtl_plugins.task_specs import offered_tasks
from mtl_plugins.utils.argument_types import Index, Range

from .base import CheckedDataset
from .cache import SampleCache
from .rendering import (
    CLASSES,
    HUMAN_PALETTE,
    HUMAN_PARTS,
    PALETTE,
    TASKS,
    VERSION,
    render_scene,
    sample_scene,
)

_NUM_IMAGES = {'train': 320, 'val': 64, 'test': 64}
Side = Annotated[int, Range(16)]
_CLASSES = {'semseg': CLASSES, 'human_parts': HUMAN_PARTS}
_PALETTES = {'semseg': PALETTE, 'human_parts': HUMAN_PALETTE}
_UNITS = {'principal_curvature': '1/(0.1 m)'}


@DATASETS.register_module()
class RoomsDataset(CheckedDataset):
    """Procedurally rendered RGB-D rooms, without any download.

    Each image is a furnished room of its own, drawn from ``(version, split, seed, index)``; splits and seeds never
    share a room. Images are rendered once, by ray casting in NumPy (50 images of 96 x 96 per second and core), into a
    cache that later runs, other processes and data loader workers read.

    Targets are exact and follow the conventions of :mod:`mtl_plugins.task_specs`; see
    :func:`mtl_plugins.datasets.rendering.targets.render_targets` for each of them. In short: ``semseg`` has 12 classes
    and one unlabelled kind of object (255), ``human_parts`` has 6 parts and the background, and is 255 everywhere in
    the images without people (about half); ``depth`` is in metres; ``principal_curvature`` is in 1/(0.1 m), clipped
    to 0..1.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``.
        num_images: Number of images, by default 320, 64 and 64. More images extend the same cache.
        size: ``(H, W)`` in pixels, at least 16 each.
        tasks: Any of the eleven tasks, in any order; by default all.
        seed: Seed of the whole dataset, 0 or more.
        cache_dir: Folder of all caches; by default the environment variable ``MTL_PLUGINS_CACHE``, else
            ``~/.cache/mtl_plugins``.
        num_workers: Processes that render; 0 renders in this one.
        pipeline: Transforms, the first of them ``dict(type='mtl_plugins.LoadCachedSample')``.
        metainfo: Entries to add to or replace in the dataset's ``tasks``, ``classes`` and ``palettes``.
        **kwargs: Those of :class:`mmengine.dataset.BaseDataset` that choose or keep samples, such as ``indices``.

    Raises:
        KeyError: If a task is unknown.
        ValueError: If a task is not among the eleven, or another argument is out of its range.
        CacheError: If the cache cannot be written.

    Example:
        >>> from mtl_plugins.datasets import RoomsDataset
        >>> pipeline = [dict(type='mtl_plugins.LoadCachedSample'), dict(type='mtl_plugins.PackMultiTaskInputs')]
        >>> dataset = RoomsDataset('val', num_images=2, size=(32, 48), tasks=['semseg', 'depth'], pipeline=pipeline)
        >>> len(dataset), dataset[0]['inputs'].shape, dataset[0]['data_samples'].gt_depth.data.shape
        (2, torch.Size([3, 32, 48]), torch.Size([1, 32, 48]))
    """

    def __init__(
        self,
        split: Literal['train', 'val', 'test'] = 'train',
        num_images: Index | None = None,
        size: tuple[Side, Side] = (96, 96),
        tasks: Sequence[str] = TASKS,
        seed: Index = 0,
        cache_dir: str | os.PathLike | None = None,
        num_workers: Index = 0,
        pipeline: Sequence[Any] = (),
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.split, self.seed, self.size = split, seed, tuple(size)
        self.tasks = offered_tasks('RoomsDataset', tasks, TASKS)
        num_images = _NUM_IMAGES[split] if num_images is None else num_images
        if not num_images:
            raise UserError(
                f'RoomsDataset (split {split!r}, size {self.size[0]}x{self.size[1]}) is empty: it was asked to render '
                f'num_images={num_images} images into {cache_dir or "the default cache"}; num_images must be 1 or more'
            )
        self.sample_cache = rooms_cache(split, num_images, self.size, seed, cache_dir)
        self.num_workers = num_workers
        told = dict(classes=_CLASSES, palettes=_PALETTES, units=_UNITS)
        own = dict(tasks=self.tasks, **{key: _only(entries, self.tasks) for key, entries in told.items()})
        super().__init__(metainfo={**own, **(metainfo or {})}, pipeline=pipeline, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Render what the cache lacks, and list the samples."""
        render = functools.partial(render_room, self.split, self.seed, self.size)
        self.sample_cache.fill(render, f'Rendering Rooms ({self.split})', self.num_workers)
        return [
            dict(img_path=str(self.sample_cache.path(index)), cache_index=index)
            for index in range(len(self.sample_cache))
        ]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Description of a sample, with what :class:`~mtl_plugins.datasets.LoadCachedSample` needs to read it."""
        return {
            **super().get_data_info(idx),
            'sample_cache': self.sample_cache,
            'tasks': self.tasks,
            'num_classes': {task: len(names) for task, names in (self._metainfo['classes'] or {}).items()},
        }


def rooms_cache(
    split: str, count: int, size: tuple[int, int], seed: int = 0, cache_dir: str | os.PathLike | None = None
) -> SampleCache:
    """The cache of the first ``count`` images of a split; :func:`render_room` fills it."""
    parameters = dict(renderer=VERSION, split=split, seed=seed, size=list(size))
    return SampleCache.create(f'rooms-{split}-{size[0]}x{size[1]}', parameters, count, cache_dir)


def render_room(split: str, seed: int, size: tuple[int, int], index: int) -> dict[str, np.ndarray]:
    """Image ``index`` of a split with all its targets, see :func:`mtl_plugins.datasets.rendering.render_scene`."""
    return render_scene(sample_scene(split, seed, index), size)


def _only(entries: dict[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    return {task: entries[task] for task in tasks if task in entries}
