"""The check of a dataset whose splits are lists of ids, with the same kinds of files for each id."""

import functools
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..files.folders import missing_files, read_lines
from ..files.provenance import read_provenance
from .base import CheckJob, LayoutCheck, Problem, make_problem
from .files import Size, check_ids, check_sample, reason


class ListedCheck(LayoutCheck):
    """Folders, lists and files of such a dataset; subclasses say which these are.

    Args:
        root: The folder of the dataset.

    Attributes:
        COUNTS: Split -> its published number of images.
        provenance: What the tool that made the folder noted; it decides how many images there should be.
        ids: Split -> ids, of the lists that can be read.
        sizes: (height, width) that the samples may have; empty for any.
    """

    COUNTS: Mapping[str, int] = {}

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.provenance = read_provenance(root)
        self.ids: dict[str, list[str]] = {}
        self.sizes: tuple[Size, ...] = ()
        self._unread: list[Problem] = []
        for split in self.COUNTS:
            path = self.split_path(split)
            try:
                self.ids[split] = read_lines(self.root / path)
            except FileNotFoundError:
                self._unread.append(make_problem('missing file', path, f'it lists the samples of the split {split}'))
            except (OSError, ValueError) as error:
                self._unread.append(make_problem('unreadable file', path, reason(error)))

    @abstractmethod
    def split_path(self, split: str) -> str:
        """The list of a split."""

    @abstractmethod
    def folders(self) -> Iterable[str]:
        """The folders that must be there."""

    @abstractmethod
    def table(self, sample: str) -> Mapping[str, Callable[..., list[Problem]]]:
        """The files of a sample and their checks, see :func:`.files.check_sample`."""

    @property
    def samples(self) -> list[str]:
        """All ids, each once."""
        return list(dict.fromkeys(sample for ids in self.ids.values() for sample in ids))

    @functools.cached_property
    def unknown(self) -> frozenset[str]:
        """Ids without any file: their list is wrong, rather than all these files missing."""
        files = {sample: [str(self.root / path) for path in self.table(sample)] for sample in self.samples}
        missing = missing_files(path for paths in files.values() for path in paths)
        return frozenset(sample for sample, paths in files.items() if paths and missing.issuperset(paths))

    def structure(self) -> Iterable[Problem]:
        """Folders, split files and their ids."""
        for folder in self.folders():
            if not (self.root / folder).is_dir():
                yield make_problem('missing folder', folder, 'there is no such folder')
        yield from self._unread
        counts = self.provenance['counts'] if self.provenance else self.COUNTS
        for split, ids in self.ids.items():
            path = self.split_path(split)
            yield from check_ids(path, ids, counts.get(split))
            unknown = [sample for sample in dict.fromkeys(ids) if sample in self.unknown]
            if unknown:
                detail = f'{len(unknown)} have not a single file: {", ".join(map(repr, unknown[:5]))}'
                yield make_problem('unknown ids', path, detail)
        both = sorted(set.intersection(*map(set, self.ids.values()))) if len(self.ids) == len(self.COUNTS) else []
        if both:
            detail = f'{len(both)} are in both splits: {", ".join(both[:5])}{", ..." if len(both) > 5 else ""}'
            yield make_problem('duplicate ids', os.path.dirname(self.split_path('val')), detail)

    def jobs(self) -> list[CheckJob]:
        """One job per sample that has files; the other ids are named by :meth:`structure`."""
        tables = {sample: self.table(sample) for sample in self.samples if sample not in self.unknown}
        return [
            CheckJob(tuple(table), functools.partial(check_sample, table=table, sizes=self.sizes))
            for table in tables.values()
            if table
        ]

    def extra_files(self) -> Iterable[str]:
        """The split files."""
        return [self.split_path(split) for split in self.ids]
