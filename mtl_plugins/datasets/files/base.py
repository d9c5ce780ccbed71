"""The base of the datasets that live in folders of files: tasks, splits, missing files, one file list."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.task_specs import IGNORE_INDEX, get_task_spec, offered_tasks

from ..base import CheckedDataset
from ..transforms.fields import target_key
from ..transforms.resizing import has_labels
from .folders import missing_files
from .loading import LoadSampleFiles
from .reader import SampleReader

_SHOWN = 5
_FAR = 250.0
"""Metres. Where half of a depth map is further, it is another unit, or taken from the air."""
_LOOKED_AT = 32
"""Samples that are read, if need be, to find out whether a task has labels."""


class FilesDataset(CheckedDataset):
    """A dataset whose images and targets are files.

    Subclasses set the class attributes and implement :meth:`find_root`, :meth:`list_samples` and :meth:`make_reader`.
    Their pipelines begin with ``dict(type='mtl_plugins.LoadSampleFiles')``. Nothing is ever written below
    ``data_root``, which may be a read-only mount.

    Args:
        data_root: The folder of the dataset or its parent.
        split: One of :attr:`SPLITS`.
        tasks: Any of :attr:`TASKS`, in any order; by default all. Files of other tasks are not touched.
        pipeline: Transforms.
        allow_missing: What to do about files that should be there but are not. False stops before the training
            starts; True leaves the task out for that sample (a sample without image altogether) and logs how often.
        cache_dir: Folder of all caches, for derived data; by default the environment variable ``MTL_PLUGINS_CACHE``,
            else ``~/.cache/mtl_plugins``.
        metainfo: Entries to add to or replace in the dataset's ``tasks``, ``classes``, ``palettes`` and ``channels``.
        **kwargs: Those of :class:`mmengine.dataset.BaseDataset` that choose or keep samples, such as ``indices``.

    Attributes:
        NAME: Name for ``tools/datasets/verify.py`` and messages.
        TASKS: Keys of the tasks on offer.
        SPLITS: Names of the splits.
        CLASSES: Task -> names of its classes.
        PALETTES: Task -> RGB colours of its classes.
        CHANNELS: Task -> channels of its target, where they differ from the task table.
        FORMER_DEFAULTS: Option of :meth:`conventions` -> its default in the versions whose checkpoints did not tell it,
            where it has changed since.
        stated: Options of :meth:`conventions` that were given and not left to the default.
        root: The folder that was found (set when the file list is made).
        reader: Reads the files of a sample (set when the file list is made).

    Raises:
        KeyError: If a task is unknown.
        ValueError: If a task or split is not on offer, a split is empty, or no sample has a task.
        FileNotFoundError: If the folder is not there, or files are missing and ``allow_missing`` is False.
    """

    NAME: str = ''
    TASKS: tuple[str, ...] = ()
    SPLITS: tuple[str, ...] = ('train', 'val')
    CLASSES: Mapping[str, Sequence[str]] = {}
    PALETTES: Mapping[str, Sequence[Sequence[int]]] = {}
    CHANNELS: Mapping[str, int] = {}
    FORMER_DEFAULTS: Mapping[str, Any] = {}
    stated: tuple[str, ...] = ()

    def __init__(
        self,
        data_root: str | os.PathLike,
        split: str = 'train',
        tasks: Sequence[str] | None = None,
        pipeline: Sequence[Any] = (),
        allow_missing: bool = False,
        cache_dir: str | os.PathLike | None = None,
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if split not in self.SPLITS:
            raise UserError(f'{type(self).__name__}.split must be one of {self.SPLITS}, but got {split!r}')
        self.split = split
        self.tasks = self.TASKS if tasks is None else offered_tasks(type(self).__name__, tasks, self.TASKS)
        self.allow_missing = allow_missing
        self.cache_dir = cache_dir
        self.root: Path | None = None
        self.reader: SampleReader | None = None
        told = dict(classes=self.CLASSES, palettes=self.PALETTES, channels=self.CHANNELS)
        own = dict(tasks=self.tasks, **{key: self._only(entries) for key, entries in told.items()})
        own.update(metainfo or {})
        told = self._only(self.conventions())
        if told:
            own.setdefault('conventions', {self.NAME: told})
        super().__init__(metainfo=own, pipeline=pipeline, folder=os.fspath(data_root), **kwargs)

    def full_init(self) -> None:
        """List the samples, see :class:`mmengine.dataset.BaseDataset`, and look whether each task has labels at all."""
        new = not self._fully_initialized
        super().full_init()
        if new:
            self._warn_of_unlabelled_tasks()

    # What subclasses provide.

    def find_root(self, data_root: str) -> Path:
        """The folder of the dataset, from what the user gave; see :func:`~.folders.find_folder`."""
        raise NotImplementedError

    def list_samples(self) -> list[dict[str, Any]]:
        """All samples of the split, with :attr:`root` set.

        Returns:
            One dict per sample: ``img_path`` (str), ``files`` (task -> path, or a tuple of paths if it takes several),
            optionally ``sample_id`` (by default the stem of ``img_path``) and what else the reader needs. A task that
            is not in ``files`` is one the dataset does not have for the sample; where a file *should* be, list it,
            whether it exists or not. Tasks that were not asked for may be listed too.
        """
        raise NotImplementedError

    def make_reader(self) -> SampleReader:
        """The reader of the dataset's files, with :attr:`root` set and the samples listed."""
        raise NotImplementedError

    def conventions(self) -> dict[str, dict[str, Any]]:
        """Options that decide what the targets mean, such as the axes of normals, by task.

        Checkpoints carry them, and a model is not tested on, nor its training resumed with, others. Leave out what
        only decides which samples there are, or how large.

        Returns:
            Task -> option -> its value as plain data. The option is the name of the argument that sets it.
        """
        return {}

    # What the runner and the pipeline use.

    def load_data_list(self) -> list[dict[str, Any]]:
        """Find the folder, list the samples and check that their files exist."""
        self.root = self.find_root(self.data_root)
        samples = [self._selected(sample) for sample in self.list_samples()]
        if not samples:
            raise UserError(f'{self._title}: the split is empty.{self._verify}')
        self.reader = self.make_reader()
        samples = self._without_missing(samples)
        counts = Counter(task for sample in samples for task in sample['files'])
        for task in self.tasks:
            if not counts[task]:
                raise UserError(
                    f"{self._title}: none of the {len(samples)} samples has task '{task}'. Leave it out of tasks, or "
                    f'get its files.{self._verify}'
                )
        return samples

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Description of a sample, with what :class:`~mtl_plugins.datasets.files.LoadSampleFiles` needs to read it."""
        return {
            **super().get_data_info(idx),
            'reader': self.reader,
            'tasks': self.tasks,
            'num_classes': {task: len(names) for task, names in (self._metainfo['classes'] or {}).items()},
            'channels': self._metainfo['channels'] or {},
        }

    def _warn_of_unlabelled_tasks(self) -> None:
        """Read samples, evenly spaced, until each task has shown a label; nearly always one sample is enough."""
        waiting, labelled, far = list(self.tasks), set(), set()
        looked_at = range(0, len(self), max(1, -(-len(self) // _LOOKED_AT)))
        for index in looked_at:
            if not waiting:
                break
            info = self.get_data_info(index)
            info['files'] = {task: files for task, files in info['files'].items() if task in waiting}
            try:
                sample = LoadSampleFiles().transform(info)
            except Exception:  # loading this sample for training says what is wrong with it
                return
            targets = {task: sample[target_key(task)] for task in waiting if target_key(task) in sample}
            labelled |= {task for task, target in targets.items() if has_labels(get_task_spec(task), target)}
            far |= {task for task in labelled & {*targets} if _is_far(task, targets[task])}
            shown = {task for task in labelled & {*targets} if self._tells_apart(task, targets[task])}
            waiting = [task for task in waiting if task not in shown]
        where = f'in the {len(looked_at)} of {len(self)} samples that were looked at'
        none, one = ([task for task in waiting if (task in labelled) is known] for known in (False, True))
        texts = {
            f'not one pixel is labelled for {", ".join(none)} {where}. Such a task is not trained and has no score; '
            f'leave it out of tasks, or repair its files.{self._verify}': none,
            f'{", ".join(one)}: nothing but 0 and {IGNORE_INDEX} {where}. {IGNORE_INDEX} means "not labelled", so that '
            f'maps of 0 and 255 must be returned as 0 and 1 by their reader.{self._verify}': one,
            f'{", ".join(sorted(far))}: half of the pixels of a sample are further than {_FAR:g} m. Depth is in '
            'metres; if the files hold millimetres, divide by 1000 in their reader': far,
        }
        for text in [text for text, tasks in texts.items() if tasks]:
            print_log(f'{self._title}: {text}', logger='current', level=30)

    def _tells_apart(self, task: str, target: np.ndarray) -> bool:
        """Whether a labelled target has anything else than its first class, if there are others."""
        classes = (self._metainfo['classes'] or {}).get(task, (0, 1))
        several = get_task_spec(task).is_categorical and len(classes) > 1
        return not several or bool(((target > 0) & (target != IGNORE_INDEX)).any())

    @property
    def _title(self) -> str:
        return f'{type(self).__name__} (split {self.split!r} in {self.root or self.data_root})'

    @property
    def _verify(self) -> str:
        if not self.NAME:  # a dataset of the user's own need not have a check
            return ''
        return f' python tools/datasets/verify.py {self.NAME} {self.root or self.data_root} lists all that is wrong'

    def _only(self, entries: Mapping[str, Any]) -> dict[str, Any]:
        return {task: entries[task] for task in self.tasks if task in entries}

    def _selected(self, sample: dict[str, Any]) -> dict[str, Any]:
        files = {task: sample['files'][task] for task in self.tasks if task in sample['files']}
        return {'sample_id': Path(sample['img_path']).stem, **sample, 'files': files}

    def _without_missing(self, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        missing = missing_files(path for sample in samples for path in _paths(sample))
        if not missing:
            return samples
        if not self.allow_missing:
            first = sorted(missing)[:_SHOWN]
            more = f'\n  ... and {len(missing) - len(first)} more' if len(missing) > len(first) else ''
            raise UserFileNotFoundError(
                f'{self._title}: {len(missing)} of the files it needs for {", ".join(self.tasks)} are missing:\n  '
                + '\n  '.join(first)
                + more
                + '\nPut them there, ask for fewer tasks, or set allow_missing=True to go on without them.'
                + self._verify
            )
        kept, lacking = [], Counter()
        for sample in samples:
            if sample['img_path'] in missing:
                lacking['image'] += 1
                continue
            gone = [task for task, files in sample['files'].items() if not missing.isdisjoint(_as_tuple(files))]
            lacking.update(gone)
            kept.append({**sample, 'files': {t: f for t, f in sample['files'].items() if t not in gone}})
        listed = ', '.join(f'{name} {count}' for name, count in sorted(lacking.items()))
        print_log(
            f'{self._title}: files are missing and left out (allow_missing=True), of {len(samples)} samples: {listed}',
            logger='current',
            level=30,
        )
        if not kept:
            raise UserError(f'{self._title}: not a single image is left.{self._verify}')
        return kept


def _is_far(task: str, target: np.ndarray) -> bool:
    if get_task_spec(task).kind != 'depth':
        return False
    known = target[target > 0]
    return bool(known.size and np.median(known) > _FAR)


def _as_tuple(files: str | Iterable[str]) -> tuple[str, ...]:
    return (files,) if isinstance(files, str) else tuple(files)


def _paths(sample: dict[str, Any]) -> Iterable[str]:
    yield sample['img_path']
    for files in sample['files'].values():
        yield from _as_tuple(files)
