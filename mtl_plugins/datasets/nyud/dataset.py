"""The dataset NYUD-v2."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl_plugins.errors import UserFileNotFoundError
from mtl_plugins.registry import DATASETS

from ..files import FilesDataset, NormalAxes, palette, read_lines
from . import layout
from .decoding import NYUDv2Reader


@DATASETS.register_module()
class NYUDv2Dataset(FilesDataset):
    """NYUD-v2: 1449 indoor images of 425 x 560 with 40 classes, depth, surface normals and edges.

    795 images to train on, 654 to validate on (the official test set). All three packagings are read; which one a
    folder holds is seen from the endings of its files:

    * ``'atrc'``, ``NYUDv2.tar.gz`` (ATRC, InvPT, TaskPrompter, STGU): all PNG, depth ``.npy``;
    * ``'mtlp'``, ``NYUD_MT.tgz`` of the survey and MTI-Net: images JPEG, classes PNG, the others ``.npy``;
    * ``'astmt'``, ``NYUD_MT.tgz`` of ASTMT: images and normals JPEG, edges PNG, the others ``.mat``.

    ``semseg`` has 40 classes and 255 where the files say 0 (not labelled); ASTMT's own program counts that as a 41st
    class. ``depth`` is in metres, 0 where not known. ``normals`` are unit vectors. Nobody has
    documented their axes: ``tools/datasets/verify.py`` measures them, and they are taken as ours unless ``normal_axes``
    says otherwise. ``edge`` is 0 or 1.

    This is not the "NYUv2" with 13 classes of MTAN, LibMTL, CAGrad and others, which is refused.

    Args:
        data_root: The folder ``NYUDv2`` or ``NYUD_MT``, or its parent.
        split: ``'train'`` or ``'val'``.
        tasks: Any of ``semseg``, ``depth``, ``normals``, ``edge``; by default all.
        packaging: ``'atrc'``, ``'mtlp'`` or ``'astmt'``; None looks at the files.
        normal_axes: What the three channels of the stored normals hold, for example ``('x', '-y', 'z')`` if the second
            points down, see :class:`~mtl_plugins.datasets.files.NormalAxes`.
        pipeline: Transforms, the first of them ``dict(type='mtl_plugins.LoadSampleFiles')``.
        **kwargs: ``allow_missing``, ``metainfo`` and others, see :class:`~mtl_plugins.datasets.files.FilesDataset`.

    Raises:
        FileNotFoundError: If the folder is not there, or files are missing.
        ValueError: If the packaging cannot be told, or an argument is out of range.
    """

    NAME = layout.NAME
    TASKS = layout.TASKS
    CLASSES = {'semseg': layout.CLASSES}
    PALETTES = {'semseg': palette(len(layout.CLASSES))}

    def __init__(
        self,
        data_root: str | os.PathLike,
        split: str = 'train',
        tasks: Sequence[str] | None = None,
        packaging: str | None = None,
        normal_axes: Sequence[str] = ('x', 'y', 'z'),
        pipeline: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        self.packaging = None if packaging is None else layout.get_packaging(packaging)
        self.normal_axes = NormalAxes(normal_axes)
        super().__init__(data_root, split=split, tasks=tasks, pipeline=pipeline, **kwargs)

    def conventions(self) -> dict[str, dict[str, Any]]:
        """The axes of the normals."""
        return {'normals': dict(normal_axes=list(self.normal_axes.axes))}

    def find_root(self, data_root: str) -> Path:
        """The folder, whose packaging is looked up at this occasion."""
        root = layout.find_nyud(data_root)
        self.packaging = self.packaging or layout.detect_packaging(root)
        return root

    def list_samples(self) -> list[dict[str, Any]]:
        """The ids of the split file, in its order."""
        path = self.root / layout.split_path(self.split)
        if not path.is_file():
            raise UserFileNotFoundError(f'{self._title}: the split file {path} is missing.{self._verify}')
        return [
            dict(
                img_path=f'{self.root}/{self.packaging.image_path(sample)}',
                files={task: f'{self.root}/{self.packaging.target_path(task, sample)}' for task in self.tasks},
            )
            for sample in read_lines(path)
        ]

    def make_reader(self) -> NYUDv2Reader:
        """A reader of all packagings."""
        return NYUDv2Reader(self.normal_axes)
