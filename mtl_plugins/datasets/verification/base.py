"""What a dataset tells about its layout so that it can be verified: problems, jobs and the class that lists them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mtl_plugins.errors import UserImportError, UserKeyError, UserTypeError
from mtl_plugins.methods.naming import near_names

_TAKE_AGAIN = 'extract it from the archive again; if it stays so, download the archive again and compare its checksum'
REMEDIES = {
    'wrong folder': 'give the folder of the dataset itself or the one above it, and check the name of the dataset; '
    'docs/data_preparation.md shows how the folder must look',
    'missing folder': 'extract the archive again, or download that part; it can be left out if no config of yours uses '
    'the task',
    'missing file': _TAKE_AGAIN,
    'unreadable file': f'the file is damaged or not what its name says: {_TAKE_AGAIN}',
    'wrong size': f'the file is not the original one, perhaps a resized copy: {_TAKE_AGAIN}',
    'wrong format': f'the file was converted or re-saved by some program: {_TAKE_AGAIN}',
    'values out of range': f'the labels are of another dataset or version, or were converted: {_TAKE_AGAIN}',
    'no labelled pixel': f'the file gives nothing to train on or to evaluate: {_TAKE_AGAIN}',
    'empty split': 'take the split file from the archive again, it lists no sample',
    'wrong count': 'take the split file from the archive again; results on other splits cannot be compared with papers',
    'duplicate ids': 'take the split file from the archive again, it lists a sample more than once',
    'unknown ids': 'take the split file from the archive again, it lists samples whose files do not exist',
    'missing domain': 'download this domain for all buildings, or leave the task out',
    'missing view': 'download the domain of this building again, or use the loader with allow_missing=True',
}
"""Kind of problem -> what to do. Prefer these over new kinds, so that the reports of all datasets read alike."""
_LAYOUT_CHECKS = {
    'nyud': 'mtl_plugins.datasets.nyud.check:NYUDv2Check',
    'pascal_context': 'mtl_plugins.datasets.pascal_context.check:PascalContextCheck',
    'taskonomy': 'mtl_plugins.datasets.taskonomy.check:TaskonomyCheck',
}


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


def make_problem(kind: str, path: str, detail: str, remedy: str | None = None) -> Problem:
    """A problem of one of the shared kinds.

    Args:
        kind: A key of :data:`REMEDIES`; any other text needs a ``remedy``.
        path: File or folder relative to the root, ``''`` for the dataset as a whole.
        detail: What was expected and what was found.
        remedy: What to do, if not what :data:`REMEDIES` says.

    Raises:
        KeyError: If the kind is not known and there is no remedy.
    """
    return Problem(path, f'{kind}: {detail}', REMEDIES[kind] if remedy is None else remedy)


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
        """What was found, for the head of the report: packaging, number of samples per split, which data they are."""

    def extra_files(self) -> Iterable[str]:
        """Files besides those of :meth:`jobs` that belong to the dataset (split files); they are only hashed."""
        return ()


def layout_check_names() -> tuple[str, ...]:
    """The names :func:`get_layout_check` knows."""
    return tuple(_LAYOUT_CHECKS)


def get_layout_check(name: str) -> type[LayoutCheck]:
    """Import the layout check of a dataset.

    Args:
        name: One of :func:`layout_check_names`, or ``'package.module:Class'`` of a check of your own.

    Raises:
        KeyError: If there is none of this name; the message lists the near matches.
        ImportError: If the module of a check of your own cannot be imported, or lacks the class.
        TypeError: If the class is no :class:`LayoutCheck`.
    """
    location = _LAYOUT_CHECKS.get(name, name)
    module, colon, attribute = location.partition(':')
    if not (module and colon and attribute):
        near = near_names(name.lower(), _LAYOUT_CHECKS, 2, 0.4)
        hint = f'did you mean {" or ".join(near)}?' if near else f'known: {", ".join(_LAYOUT_CHECKS)}'
        raise UserKeyError(f"no dataset '{name}' can be verified: {hint} (a check of your own: package.module:Class)")
    found = getattr(import_module(module), attribute, None)
    if found is None:
        raise UserImportError(f"{location}: module '{module}' has no '{attribute}'")
    if not (isinstance(found, type) and issubclass(found, LayoutCheck)):
        raise UserTypeError(f'{location} must be a subclass of mtl_plugins.datasets.verification.LayoutCheck')
    return found
