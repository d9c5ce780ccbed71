"""Finding, reading and checking photographs on disk."""

import contextlib
import mimetypes
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from PIL import Image, ImageOps

from mtl_plugins.errors import UserError, UserFileNotFoundError, UserRuntimeError
from mtl_plugins.utils.files import given_path
from mtl_plugins.utils.parallel import tracked

from .cache import FileCache, cache_base, fingerprint
from .files.jpeg import jpeg_header
from .files.pictures import decode_picture, open_picture, pixel_limit, to_rgb, upright_size
from .files.source import JPEG, PictureError, UnreadableFileError, read_bytes

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')

# The colour photographs with a stated licence that the packages ship (docs/photos_licences.md).
BUNDLED = {
    'skimage': ('data', (
        'astronaut.png', 'chelsea.png', 'coffee.png', 'hubble_deep_field.jpg', 'ihc.png', 'retina.jpg', 'rocket.jpg',
    )),
    'sklearn': ('datasets/images', ('china.jpg', 'flower.jpg')),
}  # fmt: skip


class UnreadablePhotoError(UserRuntimeError):
    """A photograph cannot be decoded or is too small; the message names the file and the reason."""


@dataclass(frozen=True)
class PhotoFile:
    """A file that should hold a photograph.

    Args:
        name: Its name in messages and for seeds: the path relative to the folder, with forward slashes.
        path: Where it is.
        stamp: Size in bytes and, for the user's own files, time of the last change in nanoseconds and the folder.
    """

    name: str
    path: str
    stamp: tuple[int | str, ...]


def find_bundled_photos() -> list[PhotoFile]:
    """The photographs inside the installed scikit-image and scikit-learn packages.

    Raises:
        FileNotFoundError: If some are missing, as in distributions that strip data files.
    """
    found, missing = [], []
    for package, (folder, names) in BUNDLED.items():
        spec = find_spec(package)
        base = Path(spec.origin).parent / folder if spec else Path(package)
        for name in names:
            path = base / name
            if path.is_file():
                # No time stamp: it changes with each installation of the same file.
                found.append(PhotoFile(name, str(path), (path.stat().st_size,)))
            else:
                missing.append(str(path))
    if missing:
        raise UserFileNotFoundError(
            f'PhotosDataset: root=None uses the photographs inside scikit-image and scikit-learn, but {len(missing)} '
            f'of them are missing, for example {missing[0]}; install both packages with pip, or set root to a folder '
            'of your own photographs'
        )
    return sorted(found, key=lambda photo: photo.name)


def find_photos(root: str | os.PathLike) -> list[PhotoFile]:
    """All image files below a folder, ordered by name; see :func:`picture_paths`.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no image file.
    """
    base = given_path(root, 'root')
    if not base.is_dir():
        raise UserFileNotFoundError(
            f'PhotosDataset: root={str(root)!r} is not a folder; set it to a folder of photographs'
        )
    found = []
    for path in picture_paths(base):
        state = path.stat() if path.exists() else None  # a dangling link is reported as unreadable later
        stamp = (state.st_size, state.st_mtime_ns, str(base.resolve())) if state else (0, 0)
        found.append(PhotoFile(path.relative_to(base).as_posix(), str(path), stamp))
    if not found:
        raise UserError(
            f'PhotosDataset: no photographs in root={str(root)!r}; looked in it and all its folders for files that '
            f'end in {", ".join(SUFFIXES)}'
        )
    return sorted(found, key=lambda photo: photo.name)


def picture_paths(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is called like a picture, also behind links, in order.

    Hidden files and folders are left out; so are pictures of other kinds and videos, and a warning tells. A folder is
    listed once, under its own name if it lies below ``folder``: folders that link to each other have paths without end.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for start in waiting:
            found += _files(start, seen, links)
        waiting = sorted(links)
    pictures = sorted(path for path in found if path.name.lower().endswith(SUFFIXES))
    others = sorted(path for path in {*found}.difference(pictures) if _is_medium(path))
    if others:
        print_log(
            f'{len(others)} pictures or videos in {folder} are left out, for example {others[0]}: of a folder only '
            f'files that end in {", ".join(SUFFIXES)} are taken. Convert pictures; inference takes a video by its path',
            logger='current',
            level=30,
        )
    yield from pictures


def _is_medium(path: Path) -> bool:
    return (mimetypes.guess_type(path.name, strict=False)[0] or '').startswith(('image/', 'video/'))


def _files(folder: Path, seen: set[tuple[int, int]], links: list[Path]) -> Iterator[Path]:
    state = folder.stat()
    own = (state.st_dev, state.st_ino)
    if own in seen:
        return
    seen.add(own)
    with os.scandir(folder) as entries:
        listed = [entry for entry in entries if not entry.name.startswith('.')]
    for entry in listed:
        path = folder / entry.name
        if entry.is_symlink() and path.is_dir():  # Path says no to a link to itself, the entry raises an error
            links.append(path)
        elif not entry.is_symlink() and entry.is_dir():
            yield from _files(path, seen, links)
        else:
            yield path


def read_photo(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """Decode a photograph, turn it upright, and resize it.

    Args:
        path: The file.
        size: Resize to this (height, width).

    Returns:
        ``(H, W, 3)`` uint8 in RGB, see :func:`~mtl_plugins.datasets.files.pictures.decode_picture`.

    Raises:
        UnreadablePhotoError: If the file cannot be decoded completely, or has values whose range is not known.
    """
    with _named(path):
        data = read_bytes(path, _EXPECTED)
        if data.startswith(JPEG):
            jpeg_header(data)
            with open_picture(data) as image:
                # The decoder may leave out detail that the resizing would remove anyway.
                image.draft(None, (2 * max(size), 2 * max(size)))
                rgb = to_rgb(ImageOps.exif_transpose(image))
        else:
            rgb = Image.fromarray(np.ascontiguousarray(decode_picture(data, path).bgr[..., ::-1]))
        return np.asarray(rgb.resize(size[::-1], Image.Resampling.LANCZOS))


def load_photo(path: str | os.PathLike) -> np.ndarray:
    """Decode a photograph at its own size, exactly as datasets read their images, but in RGB.

    Raises:
        UnreadablePhotoError: See :func:`read_photo`.
    """
    with _named(path):
        return np.ascontiguousarray(decode_picture(read_bytes(path, _EXPECTED), path).bgr[..., ::-1])


_EXPECTED = 'a picture'


@contextlib.contextmanager
def _named(path: str | os.PathLike) -> Iterator[None]:
    """Turn whatever a decoder raises into an error with the name of the file."""
    try:
        yield
    except Exception as error:  # decoders raise nearly anything, from OSError to SyntaxError and struct.error
        raise UnreadablePhotoError(f'cannot read {path}: {_reason(error)}') from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnreadableFileError):
        return f'expected {error.expected}, but found {error.found}'
    if isinstance(error, PictureError):
        return f'expected {_EXPECTED}, but found {error}'
    return f'{type(error).__name__}: {error}'


@dataclass(frozen=True)
class Scan:
    """What a look at every photograph gave: (height, width) of the good ones, the reason for the others, by name."""

    sizes: dict[str, tuple[int, int]]
    problems: dict[str, str]


def scan_photos(photos: Sequence[PhotoFile], cache_dir: str | os.PathLike | None, num_workers: int = 0) -> Scan:
    """Decode every photograph once to learn its size and whether it is whole; the outcome is kept in the cache.

    Args:
        photos: The files.
        cache_dir: Folder of all caches, by default :func:`~mtl_plugins.datasets.cache.default_cache_dir`.
        num_workers: Threads beside the first one.

    Raises:
        CacheError: If the outcome cannot be stored.
    """
    key = fingerprint(dict(scan=3, limit=pixel_limit(), files=[[photo.name, *photo.stamp] for photo in photos]))
    cache, entry = FileCache(cache_base(cache_dir)), f'photos-scan-{key}.json'

    def look() -> dict[str, tuple[int, int] | str]:
        with ThreadPoolExecutor(num_workers + 1) as pool:
            outcomes = tracked(pool.map(_look, photos), 'Check photos', len(photos))
            return {photo.name: outcome for photo, outcome in zip(photos, outcomes)}

    outcomes = cache.get(entry, look, form={...: (str, [int])})
    sizes = {name: tuple(outcome) for name, outcome in outcomes.items() if not isinstance(outcome, str)}
    return Scan(sizes, {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)})


def _look(photo: PhotoFile) -> tuple[int, int] | str:
    """Upright (height, width) of a photograph, or the reason why it cannot be used."""
    try:
        data = read_bytes(photo.path, _EXPECTED)
        if not data.startswith(JPEG):
            return decode_picture(data, photo.path).bgr.shape[:2]
        with open_picture(data) as image:
            # A coarse decode reads the whole file: it finds truncation as well as a full one does, in less time.
            image.draft(None, (64, 64))
            image.load()
        return upright_size(data)
    except Exception as error:  # see _named
        return _reason(error)
