"""Dense multi-task data from plain photographs: no labels, no download."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from mmengine.logging import print_log

from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATASETS
from mtl_plugins.task_specs import get_task_spec, offered_tasks
from mtl_plugins.utils.argument_types import Count, Index, Range

from .base import CheckedDataset
from .cache import SampleCache
from .photo_crops import Crop, crop_generator, draw_crops, photos_of_split, region, working_size
from .photo_files import PhotoFile, UnreadablePhotoError, find_bundled_photos, find_photos, read_photo, scan_photos
from .photo_targets import NOISE_TASK, OFFERED_TASKS, SELF_TASKS, add_noise, photo_targets
from .transforms.fields import as_size

VERSION = 2
"""Part of the cache's fingerprint: raise it whenever the same arguments give other pixels or targets."""
MANY = 30
"""From this number of photographs on, ``split_by='auto'`` deals them out whole."""


@dataclass
class _Renderer:
    """Renders crop ``index`` of one split with all its targets; can be sent to other processes."""

    paths: dict[str, str]
    crops: list[Crop]
    crop_size: tuple[int, int]
    split: str
    seed: int
    noise_std: float
    # Neighbouring indices are crops of the same photograph, which is decoded once for all of them.
    _last: tuple[Any, Any] = field(default=(None, None), repr=False)

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        crop = self.crops[index]
        if self._last[0] != (crop.name, crop.size):
            self._last = (crop.name, crop.size), read_photo(self.paths[crop.name], crop.size)
        height, width = self.crop_size
        rgb = self._last[1][crop.top : crop.top + height, crop.left : crop.left + width]
        # Half precision: its step of at most 1/2048 is far below that of 8-bit pixels, and it halves the cache.
        sample = {f'gt_{task}': target.astype(np.float16) for task, target in photo_targets(rgb).items()}
        sample['img'] = rgb
        if self.noise_std:
            sample[f'gt_{NOISE_TASK}'] = (rgb / 255).astype(np.float16)
            rng = crop_generator(self.seed, crop.name, self.split, crop.number, purpose=1)
            sample['img'] = add_noise(rgb, self.noise_std, rng)
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_last': (None, None)}


@DATASETS.register_module()
class PhotosDataset(CheckedDataset):
    """Random crops of any photographs, with targets that are computed from the photographs themselves.

    Tasks:

    * ``edge_texture``: smoothed gradient magnitude, 0..1;
    * ``keypoints2d``: multi-scale blob and corner strength, 0..1;
    * ``segment_unsup2d``: mean RGB colour of each pixel's segment, 3 channels, 0..1;
    * ``denoise``: the clean RGB crop, 3 channels, 0..1. If (and only if) it is asked for, the input image carries
      Gaussian noise, the same for each crop every time; the other targets still come from the clean crop. Leave
      colour-changing transforms such as PhotoMetricDistortion out then, since the target does not follow them.

    ``colorize`` is not offered: the input is in colour, so its target could be read off the input pixel by pixel.

    The splits never share a pixel. With ``split_by='photo'`` whole photographs are dealt out (80 : 10 : 10); with
    ``'region'`` each photograph is cut along its longer axis into three bands, one per split (70 : 15 : 15, but at
    least one crop wide), and crops stay inside their band; ``'auto'`` takes ``'photo'`` from 30 photographs on. Several
    shots of one scene are different photographs: put only one of them into the folder if that matters.

    Crops and targets are computed once, into a cache. It is made anew when a file of the folder is added, removed or
    changed, and when the folder is moved.

    Args:
        root: Folder of photographs, searched recursively. None takes the photographs that ship inside scikit-image and
            scikit-learn (docs/photos_licences.md).
        split: ``'train'``, ``'val'`` or ``'test'``.
        tasks: Task keys, see above.
        crop_size: (height, width) of the crops, or one number for squares.
        crops_per_image: Crops per photograph (of this split).
        split_by: ``'auto'``, ``'photo'`` or ``'region'``.
        photo_side: Photographs are first scaled down to this shorter side, by default 4 times the longer side of a
            crop. Smaller ones are enlarged where a crop would not fit, at most twice.
        noise_std: Standard deviation of the noise for ``denoise``, in grey levels of 0..255.
        on_error: What to do about files that cannot be decoded or are too small: ``'skip'`` leaves them out and lists
            them once, ``'raise'`` stops.
        seed: Seed of the crops, the noise and the dealing out of photographs.
        cache_dir: Folder of all caches; default: ``MTL_PLUGINS_CACHE`` or ``~/.cache/mtl_plugins``.
        num_workers: Processes that render; 0 renders in this one.
        pipeline: Transforms; the first should be ``dict(type='mtl_plugins.LoadCachedSample')``.
        metainfo: Entries to add to or replace in the dataset's ``tasks``, ``classes`` and ``palettes``.
        **kwargs: Further arguments of :class:`mmengine.dataset.BaseDataset`, such as ``test_mode`` or ``indices``.

    Raises:
        KeyError: If a task is unknown.
        ValueError: If an argument is out of range, a known task cannot be given, or no photograph is left.
        FileNotFoundError: If ``root`` is not a folder.
        UnreadablePhotoError: If a photograph is unreadable and ``on_error='raise'``.
        CacheError: If the cache cannot be written.
    """

    METAINFO = dict(dataset='photos', classes={}, palettes={})

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        split: Literal['train', 'val', 'test'] = 'train',
        tasks: Sequence[str] = SELF_TASKS,
        crop_size: int | Sequence[int] = (128, 128),
        crops_per_image: Count = 16,
        split_by: Literal['auto', 'photo', 'region'] = 'auto',
        photo_side: Count | None = None,
        noise_std: Annotated[float, Range(0)] = 25.0,
        on_error: Literal['skip', 'raise'] = 'skip',
        seed: Index = 0,
        cache_dir: str | os.PathLike | None = None,
        num_workers: Index = 0,
        pipeline: Sequence[Any] = (),
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.root = root
        self.split = split
        self.tasks = offered_tasks('PhotosDataset', tasks, OFFERED_TASKS)
        self.crop_size = as_size(crop_size, 'PhotosDataset.crop_size')
        self.crops_per_image = crops_per_image
        self.split_by = split_by
        self.photo_side = 4 * max(self.crop_size) if photo_side is None else photo_side
        self.noise_std = float(noise_std) if NOISE_TASK in self.tasks else 0.0
        self.on_error = on_error
        self.seed = seed
        self.cache_dir = cache_dir
        self.num_workers = num_workers
        self.sample_cache: SampleCache | None = None
        self.skipped: dict[str, str] = {}
        if NOISE_TASK in self.tasks and not self.noise_std:
            raise UserError("PhotosDataset: task 'denoise' needs noise_std above 0")
        super().__init__(metainfo={'tasks': self.tasks, **(metainfo or {})}, pipeline=pipeline, **kwargs)
        coloured = [task for task in self.tasks if get_task_spec(task).painter == 'rgb']
        if coloured and 'PhotoMetric' in repr(self.pipeline):
            print_log(
                'PhotosDataset: the pipeline changes the colours of the picture (PhotoMetricDistortion), but not those '
                f'in the targets of {", ".join(coloured)}, which are taken from it; leave that transform out',
                logger='current',
                level=30,
            )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Find and check the photographs, choose the crops and render what the cache lacks."""
        photos = find_bundled_photos() if self.root is None else find_photos(self.root)
        scan = scan_photos(photos, self.cache_dir, self.num_workers)
        by_photo = self.split_by == 'photo' or (self.split_by == 'auto' and len(scan.sizes) >= MANY)
        sizes = {
            name: working_size(size, self.crop_size, self.photo_side, regions=not by_photo)
            for name, size in scan.sizes.items()
        }
        small = {
            name: f'{scan.sizes[name][0]} x {scan.sizes[name][1]} pixels (height x width) are too few'
            for name, size in sizes.items()
            if size is None
        }
        self.skipped = {**scan.problems, **small}
        self._report(photos)
        usable = [photo.name for photo in photos if sizes.get(photo.name)]
        chosen = photos_of_split(usable, self.split, self.seed) if by_photo else usable
        crops: list[Crop] = []
        for name in chosen:
            size = sizes[name]
            whole = slice(0, size[0]), slice(0, size[1])
            area = whole if by_photo else region(name, size, self.crop_size, self.split)
            crops += draw_crops(name, size, area, self.crop_size, self.crops_per_image, self.split, self.seed)
        paths = {photo.name: photo.path for photo in photos}
        self._render(photos, crops, paths, by_photo)
        return [
            dict(img_path=f'{paths[crop.name]}@y{crop.top}x{crop.left}', source=paths[crop.name], cache_index=index)
            for index, crop in enumerate(crops)
        ]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Information on crop ``idx`` for the pipeline, with the cache to load it from."""
        return {**super().get_data_info(idx), 'sample_cache': self.sample_cache, 'tasks': self.tasks}

    def _render(self, photos: list[PhotoFile], crops: list[Crop], paths: dict[str, str], by_photo: bool) -> None:
        parameters = dict(
            version=VERSION,
            files=[[photo.name, *photo.stamp] for photo in photos],
            split=self.split,
            by_photo=by_photo,
            crop_size=self.crop_size,
            crops_per_image=self.crops_per_image,
            photo_side=self.photo_side,
            noise_std=self.noise_std,
            seed=self.seed,
        )
        self.sample_cache = SampleCache.create(f'photos-{self.split}', parameters, len(crops), self.cache_dir)
        renderer = _Renderer(paths, crops, self.crop_size, self.split, self.seed, self.noise_std)
        self.sample_cache.fill(renderer, f'Photos ({self.split})', self.num_workers)

    def _report(self, photos: Sequence[PhotoFile]) -> None:
        """Name the photographs that are left out, or stop because of them."""
        if not self.skipped:
            return
        where = 'scikit-image and scikit-learn' if self.root is None else f'root={str(self.root)!r}'
        listed = [f'  {name}: {reason}' for name, reason in sorted(self.skipped.items())]
        shown = '\n'.join(listed[:20] + ([f'  ... and {len(listed) - 20} more'] if len(listed) > 20 else []))
        counted = f'{len(listed)} of {len(photos)} photographs in {where} cannot be used'
        if self.on_error == 'raise':
            raise UnreadablePhotoError(
                f"PhotosDataset: {counted}:\n{shown}\nRemove or replace them, or set on_error='skip' to leave them out"
            )
        if len(listed) == len(photos):
            raise UserError(f'PhotosDataset: none is left: {counted}:\n{shown}')
        print_log(f'PhotosDataset: {counted} and are skipped:\n{shown}', logger='current', level=30)
