"""Ready-made checks of files and targets, to be called inside the jobs of a dataset.

Each reads a file with the functions of the loader and returns the problems it finds. A file that is not there is no
problem here: the runner names missing files.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.datasets.files.pictures import decode_picture, open_picture, upright_size
from mtl_plugins.datasets.files.png import PngHeader, png_header
from mtl_plugins.datasets.files.reading import read_npy
from mtl_plugins.datasets.files.source import PNG, UNREADABLE, UnreadableFileError, fail, kind_of, read_bytes
from mtl_plugins.datasets.transforms.checks import value_problem
from mtl_plugins.datasets.transforms.resizing import has_labels
from mtl_plugins.task_specs import IGNORE_INDEX, get_task_spec

from .base import Problem, make_problem

Size = tuple[int, int]
_UNLABELLED = {
    'classes': f'all pixels are {IGNORE_INDEX} (not labelled)',
    'binary': f'all pixels are {IGNORE_INDEX} (not labelled)',
    'depth': 'no pixel has a depth (all are 0 or NaN)',
    'normals': 'no pixel has a normal (all are the zero vector)',
    'regression': 'no pixel has a value (all are NaN)',
}


def check_file(
    root: Path, path: str, read: Callable[[], Any], check: Callable[[Any], list[Problem]] = lambda value: []
) -> list[Problem]:
    """Read a file, then check what it holds.

    Args:
        root: Folder of the dataset.
        path: The file that is read, relative to the root.
        read: Returns what the file holds. Its ValueError or OSError becomes the problem 'unreadable file', and one
            with a ``kind``, as UnreadableFileError has it, one of this kind.
        check: What is wrong with the content.
    """
    if not (root / path).exists():
        return []
    try:
        value = read()
    except (OSError, ValueError) as error:
        return [make_problem(getattr(error, 'kind', UNREADABLE), path, reason(error))]
    return check(value)


def check_sample(
    root: Path, table: Mapping[str, Callable[..., list[Problem]]], sizes: Sequence[Size] = ()
) -> list[Problem]:
    """Check the files of one sample.

    Args:
        root: Folder of the dataset.
        table: File -> its check, which gets the root, the file, and the size (height, width) that it should have. That
            is the size of most of the pictures: of one file alone it cannot be said whether its size is right.
        sizes: The sizes that there are; if that of the pictures is none of them, the first is right.
    """
    size = usual_size(root / path for path in table if path.endswith(('.png', '.jpg')))
    if sizes and size not in sizes:
        size = sizes[0]
    return [problem for path, check in table.items() for problem in check(root, path, size)]


def check_image(root: Path, path: str, size: Size | None = None, channels: Sequence[int] = (3,)) -> list[Problem]:
    """Check an image of 8 bits, a JPEG or a PNG as its name says, for :func:`check_sample`."""
    if path.endswith('.png'):
        return check_png(root, path, size=size, channels=channels, bits=8) or check_decodes(root, path, size=size)
    return check_jpeg(root, path, size=size)


def check_stored(
    root: Path,
    path: str,
    size: Size | None,
    task: str,
    read: Callable[[Path], np.ndarray],
    num_classes: int | None = None,
) -> list[Problem]:
    """:func:`check_target` for :func:`check_sample`: ``read`` gets the file."""
    return check_target(root, path, task, lambda: read(root / path), size=size, num_classes=num_classes)


def check_size(path: str, found: Sequence[int], expected: Size | None) -> list[Problem]:
    """Whether ``found`` (height, width) is the expected size; anything is right if that is None."""
    if expected is None or tuple(found) == tuple(expected):
        return []
    detail = f'expected {_text(expected)} (height x width), found {_text(found)}'
    return [make_problem('wrong size', path, detail)]


def usual_size(paths: Iterable[Path]) -> Size | None:
    """The size that most of these pictures have, of several the first one's; None if none can be opened."""
    sizes: Counter[Size] = Counter()
    for path in paths:
        with contextlib.suppress(ValueError):
            sizes[upright_size(read_bytes(path, 'a picture'))] += 1
    return max(sizes, key=sizes.__getitem__, default=None)


def check_png(
    root: Path,
    path: str,
    *,
    size: Size | None = None,
    channels: int | Sequence[int] | None = None,
    bits: int | Sequence[int] | None = None,
) -> list[Problem]:
    """Check that a file is a complete, unaltered PNG of the expected size and format; :func:`check_decodes` decodes.

    Args:
        root: Folder of the dataset.
        path: The file, relative to the root.
        size: Expected (height, width); None accepts any.
        channels: Expected number of channels as stored, or several that are right; grey and palette both have 1.
        bits: Expected bits per channel, or several that are right.
    """
    channels, bits = _several(channels), _several(bits)

    def check(header: PngHeader) -> list[Problem]:
        problems = check_size(path, header.size, size)
        if (channels and header.channels not in channels) or (bits and header.bits not in bits):
            expected = [f'{_either(channels)} channel(s)'] * bool(channels) + [f'{_either(bits)} bits'] * bool(bits)
            found = f'{header.channels} channel(s) of {header.bits} bits ({header.colours})'
            problems.append(make_problem('wrong format', path, f'expected {" of ".join(expected)}, found {found}'))
        return problems

    def read() -> PngHeader:
        data = read_bytes(root / path, 'a PNG file')
        return png_header(data) if data.startswith(PNG) else fail(root / path, 'a PNG file', kind_of(data))

    return check_file(root, path, read, check)


def check_jpeg(root: Path, path: str, *, size: Size | None = None, channels: int | None = 3) -> list[Problem]:
    """Check that a file is a JPEG of the expected size and number of channels that the loader can read."""
    problems = check_decodes(root, path, size=size)
    if any(problem.kind != 'wrong size' for problem in problems) or not (root / path).exists():
        return problems
    with open_picture(read_bytes(root / path, 'a picture')) as image:
        found, bands = image.format, len(image.getbands())
    if found != 'JPEG':
        problems.append(make_problem('wrong format', path, f'expected a JPEG file, found {found}'))
    elif channels is not None and bands != channels:
        problems.append(make_problem('wrong format', path, f'expected {channels} channel(s), found {bands}'))
    return problems


def check_decodes(root: Path, path: str, *, size: Size | None = None) -> list[Problem]:
    """Check that the loader can read an image, and that upright it has the expected (height, width), if any."""

    def read() -> np.ndarray:
        return decode_picture(read_bytes(root / path, 'a picture')).bgr

    return check_file(root, path, read, lambda bgr: check_size(path, bgr.shape[:2], size))


def check_npy(
    root: Path,
    path: str,
    *,
    shape: Sequence[int] | None = None,
    dtypes: Sequence[str] | None = ('float32', 'float64'),
) -> list[Problem]:
    """Check that an ``.npy`` file is complete and holds an array of the expected shape and one of the data types.

    None for either accepts any.
    """

    def check(array: np.ndarray) -> list[Problem]:
        problems = []
        if shape is not None and array.shape != tuple(shape):
            detail = f'expected an array of {_text(shape)}, found {_text(array.shape)}'
            problems.append(make_problem('wrong size', path, detail))
        if dtypes is not None and array.dtype.name not in dtypes:
            detail = f'expected data type {_either(dtypes)}, found {array.dtype.name}'
            problems.append(make_problem('wrong format', path, detail))
        return problems

    return check_file(root, path, lambda: read_npy(root / path), check)


def check_target(
    root: Path,
    path: str,
    task: str,
    read: Callable[[], np.ndarray],
    *,
    size: Size | None = None,
    num_classes: int | None = None,
) -> list[Problem]:
    """Read a target with the loader's own function, then check its size and its values.

    Args:
        root: Folder of the dataset.
        path: The file that is read, relative to the root.
        task: Key of the task.
        read: Returns the target as the loader gives it (the conventions of :mod:`mtl_plugins.task_specs`), ``(H, W)``
            or ``(H, W, C)``; see :func:`check_file`.
        size: Expected (height, width); None accepts any.
        num_classes: Number of classes, for tasks of kind ``'classes'``.
    """

    def check(target: np.ndarray) -> list[Problem]:
        problems = check_size(path, target.shape[:2], size)
        spec = get_task_spec(task)
        wrong = value_problem(target, spec, num_classes)
        if wrong is not None:
            detail = f'{task}: expected {wrong[0]}, found {wrong[1]}'
            problems.append(make_problem('values out of range', path, detail))
        elif not has_labels(spec, target):
            problems.append(make_problem('no labelled pixel', path, f'{task}: {_UNLABELLED[spec.kind]}'))
        return problems

    return check_file(root, path, read, check)


def check_ids(path: str, ids: Sequence[str], expected: int | None = None) -> list[Problem]:
    """Check the samples that a split file lists: that there are some, none twice, and as many as there should be.

    Args:
        path: The split file, relative to the root.
        ids: What it lists, as the loader reads it.
        expected: How many there should be; None accepts any number from 1.
    """
    if not ids:
        return [make_problem('empty split', path, 'it lists no sample')]
    problems = []
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        detail = f'{len(twice)} listed more than once: {", ".join(twice[:5])}{", ..." if len(twice) > 5 else ""}'
        problems.append(make_problem('duplicate ids', path, detail))
    if expected is not None and len(set(ids)) != expected:
        problems.append(make_problem('wrong count', path, f'expected {expected} samples, found {len(set(ids))}'))
    return problems


def reason(error: Exception) -> str:
    """What an exception says about a file, in one line and without what the report says anyway (path and remedy)."""
    if isinstance(error, UnreadableFileError) and error.expected:
        return f'expected {error.expected}, found {error.found}'
    return ' '.join(str(error).split()) or type(error).__name__


def _text(size: Sequence[int]) -> str:
    return ' x '.join(str(int(length)) for length in size)


def _several(value: int | Iterable[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def _either(values: Iterable[object]) -> str:
    return ' or '.join(str(value) for value in values)
