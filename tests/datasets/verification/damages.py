"""Ways in which files of datasets get damaged. Each takes the file and changes it in place, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

CUT = 8
"""Rows that are cut off for a wrong size."""


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def empty(path: Path) -> None:
    path.write_bytes(b'')


def replace_by_page(path: Path) -> None:
    path.write_bytes(b'<html>404: the file has moved</html>')


def crop(path: Path) -> None:
    edit(path, lambda array: array[:-CUT])


def retype(path: Path) -> None:
    """Other bits or channels for an image, integers or text for an array."""
    if path.suffix in ('.png', '.jpg'):
        with Image.open(path) as image:
            image.load()
        if path.suffix == '.jpg':
            other = image.convert('CMYK' if image.mode == 'L' else 'L')
        else:
            other = image.convert({'RGB': 'L', 'I;16': 'L', 'P': 'RGB'}.get(image.mode, 'I;16'))
        other.save(path)
    elif path.suffix == '.npy':
        np.save(path, np.load(path).astype(np.int16))
    else:
        edit(path, lambda array: np.array(['text']))


def fill(value: float) -> Callable[[Path], None]:
    """Damage that sets all pixels to a value."""

    return _named(f'fill with {value:g}', lambda path: edit(path, lambda array: np.full_like(array, value)))


def spot(value: float) -> Callable[[Path], None]:
    """Damage that sets three pixels to a value."""

    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[2, 3:6] = value
        return array

    return _named(f'some {value:g}', lambda path: edit(path, change))


def scale(factor: float) -> Callable[[Path], None]:
    """Damage that multiplies all values, as another unit does."""
    return _named(f'times {factor:g}', lambda path: edit(path, lambda array: (array * factor).astype(array.dtype)))


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Read the array in a file, change it, and write it back in the same format."""
    if path.suffix == '.npy':
        np.save(path, change(np.load(path)))
    elif path.suffix == '.mat':
        [(key, array)] = ((key, array) for key, array in scipy.io.loadmat(path).items() if not key.startswith('__'))
        scipy.io.savemat(path, {key: change(array)}, do_compression=True)
    else:
        with Image.open(path) as image:
            array = change(np.array(image))
            changed = Image.fromarray(array)
            if image.mode == 'P':
                changed.putpalette(image.getpalette())
            changed.save(path, **({'quality': 95} if path.suffix == '.jpg' else {}))


def lone_returns(path: Path) -> None:
    _edit_lines(path, lambda lines: lines, end='\r')


def windows_ends(path: Path) -> None:
    _edit_lines(path, lambda lines: lines, end='\r\n')


def unix_ends(path: Path) -> None:
    _edit_lines(path, lambda lines: lines)


def no_lines(path: Path) -> None:
    _edit_lines(path, lambda lines: [])


def one_line_less(path: Path) -> None:
    _edit_lines(path, lambda lines: lines[:-1])


def two_lines_less(path: Path) -> None:
    _edit_lines(path, lambda lines: lines[:-2])


def first_line_twice(path: Path) -> None:
    _edit_lines(path, lambda lines: [*lines, lines[0]])


def last_line_twice(path: Path) -> None:
    _edit_lines(path, lambda lines: [*lines, lines[-1]])


def unknown_id(path: Path) -> None:
    _edit_lines(path, lambda lines: [*lines[:-1], '9999_999999'])


def zeros_at_the_end(path: Path) -> None:
    """As a crash of the machine leaves a file."""
    path.write_bytes(path.read_bytes()[:-2] + bytes(2))


def _edit_lines(path: Path, change: Callable[[list[str]], list[str]], end: str = '\n') -> None:
    path.write_bytes(''.join(f'{line}{end}' for line in change(path.read_text().splitlines())).encode())


def _named(name: str, damage: Callable[[Path], None]) -> Callable[[Path], None]:
    damage.__name__ = name
    return damage
