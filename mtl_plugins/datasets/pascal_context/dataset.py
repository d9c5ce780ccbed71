"""PASCAL-Context with five tasks, on the files of its archives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mmengine.logging import print_log

from mtl_plugins.errors import UserError
from mtl_plugins.registry import DATASETS
from mtl_plugins.utils.argument_types import Index
from mtl_plugins.utils.files import given_path

from ..cache import DerivedCache
from ..files.base import FilesDataset
from ..files.folders import read_lines
from ..human_parts import HUMAN_PALETTE, HUMAN_PARTS
from . import layout
from .classes import SEMSEG, voc_palette
from .part_lists import archive_lists, people, rebuilt_lists
from .reader import PascalContextReader


@DATASETS.register_module()
class PascalContextMTDataset(FilesDataset):
    """PASCAL-Context: photographs of up to 500 pixels, 4998 to train on and 5105 for validation.

    Tasks: ``semseg`` (21 classes of VOC), ``human_parts`` (7), ``sal``, ``normals``, ``edge``; see
    :class:`.reader.PascalContextReader` for each. Write ``type='mtl_plugins.PascalContextMTDataset'`` in configs: mmseg
    has a dataset of the same name.

    Args:
        data_root: The folder ``PASCALContext`` or ``PASCAL_MT`` of the archives, or its parent.
        split: ``'train'`` or ``'val'``.
        tasks: Any of the five, in any order; by default all.
        persons_only: Whether to leave out images without people. None does as the papers: only if ``human_parts`` is
            the only task. Who is in an image is taken from ``ImageSets/Parts/<split>.txt``, or, where that is absent
            or about other images, from all annotations (minutes, once; kept in the cache).
        ids_file: A text file with one id per line; only these images of the split are used. Papers, for example, score
            edges on 2498 of the images for validation.
        edge_rule: How edges are drawn from LabelMap: ``'laplacian'`` as in the released loaders, ``'borders'`` as in
            the tools behind the published odsF, for validation; see :mod:`.decoding`.
        num_workers: Processes that read the annotations, if that is necessary; 0 reads in this one.
        **kwargs: See :class:`~mtl_plugins.datasets.files.FilesDataset`.

    Raises:
        KeyError: If a task is unknown.
        ValueError: If a task or split is not on offer, a split is empty, or no sample has a task.
        FileNotFoundError: If the folder is not there, or files are missing and ``allow_missing`` is False.
        UnreadableFileError: If an annotation has to be read here and is damaged.
        CacheError: If the cache cannot be written.
    """

    METAINFO = dict(dataset=layout.NAME)
    NAME = layout.NAME
    TASKS = layout.TASKS
    SPLITS = layout.SPLITS
    CLASSES = {'semseg': SEMSEG, 'human_parts': HUMAN_PARTS}
    PALETTES = {'semseg': voc_palette(len(SEMSEG)), 'human_parts': HUMAN_PALETTE}

    def __init__(
        self,
        data_root: str | os.PathLike,
        split: str = 'train',
        tasks: Sequence[str] | None = None,
        persons_only: bool | None = None,
        ids_file: str | os.PathLike | None = None,
        edge_rule: Literal['laplacian', 'borders'] = 'laplacian',
        num_workers: Index = 0,
        **kwargs: Any,
    ) -> None:
        self.persons_only = persons_only
        self.ids_file = None if ids_file is None else given_path(ids_file, 'PascalContextMTDataset.ids_file')
        self.edge_rule = edge_rule
        self.num_workers = num_workers
        super().__init__(data_root, split, tasks, **kwargs)

    def find_root(self, data_root: str) -> Path:
        """See :func:`.layout.find_root`."""
        return layout.find_root(data_root)

    def make_reader(self) -> PascalContextReader:
        """A reader with this dataset's cache."""
        return PascalContextReader(self._derived(), self.edge_rule)

    def list_samples(self) -> list[dict[str, Any]]:
        """All samples of the split; those without people are marked, or left out if ``persons_only`` says so."""
        ids = layout.read_ids(self.root, self.split)
        chosen = self._chosen(ids)
        persons_only = self.tasks == ('human_parts',) if self.persons_only is None else self.persons_only
        persons = self._persons(ids, persons_only)
        if persons_only:
            # Images without annotation stay in the list so that the base names them, unless that is allowed.
            unknown = False if self.allow_missing else None
            kept = [identifier for identifier in chosen if persons.get(identifier, unknown) is not False]
            print_log(f'{self._title}: {len(kept)} of {len(chosen)} images show people and are used', logger='current')
            if chosen and not kept:
                raise UserError(f'{self._title}: no image shows people.{self._verify}')
            chosen = kept
        in_voc12 = layout.semseg_names(self.root)
        return [self._sample(identifier, in_voc12, persons) for identifier in chosen]

    def _chosen(self, ids: list[str]) -> list[str]:
        if self.ids_file is None:
            return ids
        wanted = set(read_lines(self.ids_file))
        unknown = sorted(wanted - set(ids))
        if unknown:
            raise UserError(
                f'PascalContextMTDataset.ids_file={os.fspath(self.ids_file)!r} lists {len(unknown)} ids that are not '
                f'in split {self.split!r}: {", ".join(unknown[:5])}{", ..." if len(unknown) > 5 else ""}'
            )
        return [identifier for identifier in ids if identifier in wanted]

    def _persons(self, ids: list[str], needed: bool) -> dict[str, bool]:
        """Whether there are people in an image, per id, as far as that is known; all is known if it is needed."""
        if not needed and 'human_parts' not in self.tasks:
            return {}
        lists = archive_lists(self.root, self.split, ids)
        if lists is None and needed:
            lists = rebuilt_lists(self.root, self.split, ids, self._derived(), self.num_workers)
        return people(lists or {})

    def _sample(self, identifier: str, in_voc12: frozenset[str], persons: dict[str, bool]) -> dict[str, Any]:
        files = layout.files_of(identifier, in_voc12)
        return dict(
            img_path=str(self.root / layout.image_file(identifier)),
            sample_id=identifier,
            files={task: tuple(str(self.root / path) for path in paths) for task, paths in files.items()},
            person=persons.get(identifier),
        )

    def _derived(self) -> DerivedCache:
        return DerivedCache(layout.NAME, self.root, self.cache_dir)
