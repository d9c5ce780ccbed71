"""What a dataset tells about its layout so that it can be verified: problems, jobs and the class that lists them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a dataset folder.

    The report counts problems per :attr:`kind` and prints a remedy once per kind, so neither may contain what differs
    from file to file; that belongs behind the colon of ``problem``.

    Args:
        path: File or folder it is about, relative to the root with forward slashes; ``''`` for the dataset as a whole.
        problem: ``'<kind>: <what was expected, what was found>'``, for example
            ``'wrong size: expected 425 x 560, found 400 x 560'``.
        remedy: What the user can do about all problems of this kind, one sentence.
    """

    path: str
    problem: str
    remedy: str

    @property
    def kind(self) -> str:
        """The part of ``problem`` in front of the colon, by which the report groups."""
        return self.problem.partition(': ')[0]

    @property
    def detail(self) -> str:
        """The part of ``problem`` behind the colon; empty if there is none."""
        return self.problem.partition(': ')[2]


@dataclass(frozen=True)
class CheckJob:
    """The check of some files that belong together, as a rule those of one sample. It is sent to a worker process.

    Args:
        paths: The files that must be there, relative to the root with forward slashes. The runner names those that
            are missing and hashes the others.
        run: Gets the root and returns what is wrong with the content of the files. Must be picklable: a function of a
            module, or :func:`functools.partial` of one. It is called also if files are missing, and has nothing to
            say about these (the checks of :mod:`.files` return no problem for a file that is not there). A
            ``ValueError`` or ``OSError`` it raises is reported as an unreadable file.
    """

    paths: tuple[str, ...]
    run: Callable[[Path], list[Problem]]


class LazyJobs(Sequence[CheckJob]):
    """Jobs that are made when they are asked for, for datasets of hundreds of thousands of samples.

    Args:
        make: Index of a sample -> its job.
        count: Number of samples.
    """

    def __init__(self, make: Callable[[int], CheckJob], count: int) -> None:
        self._make = make
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int | slice) -> CheckJob | list[CheckJob]:
        numbers = range(self._count)[index]
        return self._make(numbers) if isinstance(numbers, int) else [self._make(number) for number in numbers]


class LayoutCheck(ABC):
    """What must hold for the folder of one dataset; subclasses live beside the dataset's loader.

    Args:
        root: The folder the user gave. A subclass whose dataset may also lie one level below replaces :attr:`root`
            by the folder it found and raises FileNotFoundError if there is none.

    Attributes:
        NAME: Name on the command line, for example ``'nyud'``.
        root: The folder that is checked; all paths are relative to it.
    """

    NAME: str = ''

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @abstractmethod
    def structure(self) -> Iterable[Problem]:
        """Check folders, split files and counts without opening an image."""

    @abstractmethod
    def jobs(self) -> Sequence[CheckJob]:
        """The checks of the samples, in a fixed order; also callable on a folder whose structure is damaged.

        A list, or :class:`LazyJobs`, which spares the memory.
        """

    def across(self) -> Iterable[Problem]:
        """What only the content of several samples together shows; asked for where content is checked."""
        return ()

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """What was found, for the head of the report: packaging, number of samples per split, stand-in or real."""

    def extra_files(self) -> Iterable[str]:
        """Files besides those of :meth:`jobs` that belong to the dataset (split files); they are only hashed."""
        return ()
