"""Taskonomy for dense multi-task learning."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from mmengine.logging import print_log

from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.registry import DATASETS
from mtl_plugins.task_specs import offered_tasks

from ..files import DerivedCache, FilesDataset, NormalAxes
from ..transforms.fields import as_size
from .decoding import CODINGS, NORMAL_AXES, PICTURE_TASKS
from .holes import Holes, find_holes
from .index import Index, build_index, point_and_view
from .layout import (
    MASK,
    NAME,
    RELEASED_SPLITS,
    RELEASED_TEST_SHARE,
    RGB,
    SPLITS,
    TASKS,
    Z_BUFFER,
    find_order,
    find_root,
    read_splits,
)
from .reader import TaskonomyReader

INDEX_VERSION = 1


@DATASETS.register_module()
class TaskonomyDataset(FilesDataset):
    """The tiny split of Taskonomy (Zamir et al., CVPR 2018) with the eleven tasks of the STGU paper.

    The files of an image are found by (building, point, view), never by their position in a list. They are read from
    ``<root>/<domain>/taskonomy/<building>/point_<P>_view_<V>_domain_<domain>.png``, other orders of the folders are
    recognised. The targets and their values are described in :func:`~.decoding.decode`; the first transform of the
    pipeline is ``dict(type='mtl_plugins.LoadSampleFiles')``.

    Known holes: building woodbine is not in the download, and wiconisco lacks 80 files of ``edge_texture``. Woodbine is
    left out, and so are those 80 images if ``edge_texture`` is asked for and ``allow_missing`` is False, both with a
    line in the log. Any other missing file is an error. With ``allow_missing=True`` images stay in the dataset without
    the tasks that they lack.

    Splits: ``'train'``, ``'val'`` and ``'test'`` are those of ``splits_taskonomy/train_val_test_tiny.csv``, without
    that file those of the built-in tiny list (25, 5 and 5 buildings). ``'released_train'`` and ``'released_test'`` are
    what the released STGU program trains and evaluates on, for comparison with its tables: training and validation
    buildings together without woodbine and wiconisco (28), and the first tenth of the list of test images. That list is
    ordered by buildings, so that this tenth most likely shows one building only (ihlen): do not use it to compare
    methods.

    Args:
        data_root: The folder with the domains, or its parent.
        split: See above.
        tasks: Any of the eleven; by default all.
        masks: Pixels without geometry are not labelled (see :class:`~.reader.TaskonomyReader`). False labels all
            pixels with what the files hold, 65535 as the depth 1.0, as the released program does.
        size: Resize images and stored codes to this (height, width), or a square, before they are decoded, as the
            released program does with 256. By default the size of the files, 512 x 512.
        resample: How the codes are resized: ``'bilinear'`` as the released program does, or ``'nearest'``, which does
            not mix the codes of different depths or segments and is faster.
        normal_axes: What the three channels of the stored normals hold. The default is what genuine files show, x
            right, y down, z away from the viewer; ``tools/datasets/verify.py`` measures it. Targets have y up and z
            towards the viewer. A checkpoint that does not tell its axes asks for them to be given here.
        **kwargs: See :class:`~mtl_plugins.datasets.files.FilesDataset`.

    Raises:
        KeyError: If a task is unknown.
        ValueError: If a task or split is not on offer, a split is empty, or no image has a task.
        FileNotFoundError: If the folder is not there, or files are missing and ``allow_missing`` is False.
        UnreadableFileError: If the split file cannot be read.
    """

    NAME = NAME
    TASKS = TASKS
    SPLITS = (*SPLITS, *RELEASED_SPLITS)
    CHANNELS = {task: coding.channels for task, coding in CODINGS.items()}
    FORMER_DEFAULTS = {'normal_axes': ('x', '-y', 'z')}

    def __init__(
        self,
        data_root: str | os.PathLike,
        split: str = 'train',
        tasks: Sequence[str] | None = None,
        masks: bool = True,
        size: int | Sequence[int] | None = None,
        resample: Literal['bilinear', 'nearest'] = 'bilinear',
        normal_axes: Sequence[str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.masks = masks
        self.size = None if size is None else as_size(size, 'TaskonomyDataset: size')
        self.normal_axes = NormalAxes(NORMAL_AXES if normal_axes is None else normal_axes)
        self.stated = () if normal_axes is None else ('normal_axes',)
        self.resample = resample
        self.index: Index | None = None
        tasks = TASKS if tasks is None else offered_tasks('TaskonomyDataset', tasks, TASKS)
        own = dict(
            units={task: 'standard deviations' for task in tasks if task == 'principal_curvature'},
            value_ranges={task: span for task in tasks if (span := CODINGS[task].value_range)},
        )
        super().__init__(data_root, split, tasks, metainfo={**own, **(metainfo or {})}, **kwargs)

    def find_root(self, data_root: str) -> Any:
        """The folder that holds the domains."""
        return find_root(data_root)

    def make_reader(self) -> TaskonomyReader:
        """The reader of the files of a sample."""
        return TaskonomyReader(self.masks, self.size, self.normal_axes, self.resample)

    def conventions(self) -> dict[str, dict[str, Any]]:
        """The axes of the normals, and whether pixels without geometry count."""
        told = {task: dict(masks=bool(self.masks)) for task in TASKS if task not in PICTURE_TASKS}
        told['normal']['normal_axes'] = list(self.normal_axes.axes)
        return told

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the files, join the domains and settle what is missing.

        The list holds row numbers alone; paths are made when an image is read. That keeps a few bytes per image instead
        of a kilobyte.
        """
        self.root = self.find_root(self.data_root)
        self.reader = self.make_reader()
        splits, order = read_splits(self.root), find_order(self.root)
        buildings = splits.buildings(self.split)
        if not buildings:
            raise UserError(f'{self._title}: {splits.path} lists no building of this split.{self._verify}')
        if splits.path is None:
            print_log(f'{self._title}: no split file; the built-in tiny list is used', logger='current')
        cache = DerivedCache(NAME, self.root, self.cache_dir, INDEX_VERSION)
        masks = (MASK, Z_BUFFER) if self.masks else ()
        domains = tuple(dict.fromkeys((RGB, *self.tasks, *masks)))
        index = build_index(self.root, order, buildings, domains, cache)
        index = self._complete(index, find_holes(index, (RGB, *self.tasks)))
        if self.split == 'released_test':
            index = index.take(_released_order(index)[: max(len(index) // RELEASED_TEST_SHARE, 1)])
        for task in self.tasks:
            if not index.has(task).any():
                raise UserError(
                    f"{self._title}: none of the {len(index)} images has task '{task}'. Leave it out of tasks, or get "
                    f'its files.{self._verify}'
                )
        if self.masks and not set(self.tasks) <= set(PICTURE_TASKS):
            unmasked = len(index) - int((index.has(MASK) | index.has(Z_BUFFER)).sum())
            if unmasked:
                print_log(
                    f'{self._title}: {unmasked} images have neither {MASK} nor {Z_BUFFER}, which tell where geometry '
                    'is missing: what fills these holes counts as label, except in depth, normals and curvature, which '
                    f'have codes of their own. Get the files of {Z_BUFFER}',
                    logger='current',
                    level=logging.WARNING,
                )
        self.index = index
        return [dict(row=row) for row in range(len(index))]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Description of a sample: ``img_path``, ``files`` per task, ``sample_id`` (``building/point/view``), the
        files of the mask, and what :class:`~mtl_plugins.datasets.files.LoadSampleFiles` needs besides.
        """
        info = super().get_data_info(idx)
        index, row = self.index, info.pop('row')
        info['img_path'] = index.path(RGB, row)
        info['sample_id'] = index.sample_id(row)
        info['files'] = {task: path for task in self.tasks if (path := index.path(task, row)) is not None}
        if self.masks:
            info['mask_path'], info['zbuffer_path'] = index.path(MASK, row), index.path(Z_BUFFER, row)
        elif 'normal' in self.tasks:
            info['as_stored'] = ('normal',)  # for CheckTargets: not unit vectors, on purpose
        return info

    def _complete(self, index: Index, holes: Holes) -> Index:
        """The images that stay, after what is missing was logged; raises if it must not be missing."""
        if holes.unknown and not self.allow_missing:
            raise UserFileNotFoundError(
                f'{self._title}: {holes.summary}:\n  '
                + '\n  '.join(holes.examples)
                + '\nDownload them again, ask for fewer tasks, or set allow_missing=True to go on without them.'
                + self._verify
            )
        if holes.any:
            treated = 'images without a task stay' if self.allow_missing else 'such images are left out'
            level = logging.WARNING if holes.unknown else logging.INFO
            print_log(f'{self._title}: {holes.summary}; {treated}', logger='current', level=level)
        keep = index.has(RGB) if self.allow_missing else ~holes.rows
        if not keep.any():
            raise UserError(f'{self._title}: the split is empty, not a single image is left.{self._verify}')
        return index if keep.all() else index.take(np.flatnonzero(keep))


def _released_order(index: Index) -> np.ndarray:
    """The rows in the order of the released program: by building as listed, then by file name as text."""
    names = np.array(['point_{}_view_{}_domain_rgb.png'.format(*point_and_view(key)) for key in index.key])
    return np.lexsort((names, index.building))
