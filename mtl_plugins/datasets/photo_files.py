"""Finding, reading and checking photographs on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from mmengine.dist import get_rank
from PIL import ExifTags, Image, ImageOps
from rich.console import Console
from rich.progress import track

from mtl_plugins.errors import UserError, UserFileNotFoundError, UserRuntimeError

from .cache import CacheError, default_cache_dir, fingerprint

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
        stamp: Size in bytes and, for the user's own files, time of the last change in nanoseconds.
    """

    name: str
    path: str
    stamp: tuple[int, ...]


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
    """All image files below a folder, ordered by name; hidden files and folders are left out.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds no image file.
    """
    base = Path(root).expanduser()
    if not base.is_dir():
        raise UserFileNotFoundError(
            f'PhotosDataset: root={str(root)!r} is not a folder; set it to a folder of photographs'
        )
    found = []
    for folder, subfolders, names in os.walk(base, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith('.')]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith('.'):
                path = Path(folder, name)
                state = path.stat() if path.exists() else None  # a dangling link is reported as unreadable later
                stamp = (state.st_size, state.st_mtime_ns) if state else (0, 0)
                found.append(PhotoFile(path.relative_to(base).as_posix(), str(path), stamp))
    if not found:
        raise UserError(
            f'PhotosDataset: no photographs in root={str(root)!r}; looked in it and all its folders for files that '
            f'end in {", ".join(SUFFIXES)}'
        )
    return sorted(found, key=lambda photo: photo.name)


def read_photo(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """Decode a photograph, turn it upright, and resize it.

    Args:
        path: The file.
        size: Resize to this (height, width).

    Returns:
        ``(H, W, 3)`` uint8 in RGB. Transparency is dropped; 16-bit greys are scaled to 8 bits.

    Raises:
        UnreadablePhotoError: If the file cannot be decoded completely.
    """
    try:
        with Image.open(path) as image:
            # The JPEG decoder may leave out detail that the resizing would remove anyway.
            image.draft(None, (2 * max(size), 2 * max(size)))
            rgb = _to_rgb(ImageOps.exif_transpose(image))
            return np.asarray(rgb.resize(size[::-1], Image.Resampling.LANCZOS))
    except Exception as error:  # decoders raise nearly anything, from OSError to SyntaxError and struct.error
        raise UnreadablePhotoError(f'cannot read {path}: {type(error).__name__}: {error}') from error


def load_photo(path: str | os.PathLike) -> np.ndarray:
    """Decode a photograph at its own size and turn it upright; else as :func:`read_photo`."""
    try:
        with Image.open(path) as image:
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except Exception as error:  # see read_photo
        raise UnreadablePhotoError(f'cannot read {path}: {type(error).__name__}: {error}') from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith('I'):
        # Pillow would clip 16-bit greys at 255.
        return Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8)).convert('RGB')
    if 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')


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
    base = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
    key = fingerprint(dict(scan=1, files=[[photo.name, *photo.stamp] for photo in photos]))
    path = base / f'photos-scan-{key}.json'
    try:
        stored = json.loads(path.read_text())
        return Scan({name: tuple(size) for name, size in stored['sizes'].items()}, dict(stored['problems']))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not scanned yet, or a damaged file: it is replaced below
    sizes, problems = {}, {}
    console = Console()
    with ThreadPoolExecutor(num_workers + 1) as pool:
        silent = not console.is_terminal or get_rank() != 0 or os.environ.get('RANK', '0') != '0'
        outcomes = track(pool.map(_look, photos), 'Check photos', len(photos), console=console, disable=silent)
        for photo, outcome in zip(photos, outcomes):
            (problems if isinstance(outcome, str) else sizes)[photo.name] = outcome
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.tmp')
    try:
        base.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(dict(sizes=sizes, problems=problems)))
        os.replace(temporary, path)
    except OSError as error:
        raise CacheError(
            f'cannot write {path} ({error}); choose another folder by the option cache_dir of the dataset or the '
            'environment variable MTL_PLUGINS_CACHE, or free space'
        ) from error
    return Scan(sizes, problems)


def _look(photo: PhotoFile) -> tuple[int, int] | str:
    """Upright (height, width) of a photograph, or the reason why it cannot be used."""
    try:
        with Image.open(photo.path) as image:
            width, height = image.size
            on_its_side = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            # A coarse decode reads the whole file: it finds truncation as well as a full one does, in less time.
            image.draft(None, (64, 64))
            image.load()
    except Exception as error:  # see read_photo
        return f'{type(error).__name__}: {error}'
    return (width, height) if on_its_side else (height, width)
