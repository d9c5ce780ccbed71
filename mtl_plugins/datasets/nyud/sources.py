"""Where the labelled images of NYU Depth v2 come from: the official MATLAB file, or a plain folder."""

import functools
import json
import os
from abc import ABC, abstractmethod
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.errors import UserError
from mtl_plugins.utils.files import given_path

from ..files import UnreadableFileError, read_indices, read_npy, read_png16, read_rgb
from ..files.source import WRONG_FORMAT

OFFICIAL_NAME = 'nyu_depth_v2_labeled.mat'
OTHER = 39
"""Value in ``labels40/`` of a plain folder that "otherprop" and pixels without a label share."""
_8_BIT, _16_BIT = 25.5, 1000.0
"""Depth images: values per metre."""
_DATASETS = {'images': 4, 'depths': 3, 'labels': 3}


@functools.cache
def official_tables() -> dict[str, list[int]]:
    """``test_ids``: the 654 numbers of the official test set. ``classes_40``: class 1..40 of each of the 894 labels.

    Both are the tables that the field uses; neither is in the official file.
    """
    return json.loads(files(__package__).joinpath('official.json').read_text())


class Source(ABC):
    """Labelled images, by their official number.

    Attributes:
        path: The file or folder.
        numbers: The official numbers, 1 to 1449, of the images that are there, in order.
        size: ``(H, W)`` of all images.
    """

    path: Path
    numbers: list[int]
    size: tuple[int, int]

    @abstractmethod
    def read(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image ``(H, W, 3)`` uint8 RGB, depth ``(H, W)`` float32 metres, classes ``(H, W)`` uint8 1..40 or 0."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the provenance file says of it."""


class OfficialFile(Source):
    """``nyu_depth_v2_labeled.mat``: MATLAB 7.3, which is HDF5, with all axes reversed.

    One image at a time is read; the file of 2.8 GB is never in memory.

    Args:
        path: The file.

    Raises:
        UserError: If h5py is missing, or the file is another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = None
        try:
            import h5py
        except ImportError as error:
            raise UserError(
                f'{path} is an HDF5 file, which h5py reads: pip install "mtl-plugins[nyuv2]" (or pip install h5py)'
            ) from error
        try:
            with h5py.File(path, 'r') as file:
                shapes = {name: file[name].shape for name in _DATASETS if name in file}
        except OSError as error:
            raise UserError(
                f'{path}: expected {OFFICIAL_NAME} (HDF5), but it cannot be opened ({error}). Download it again'
            ) from error
        right = {name for name, ndim in _DATASETS.items() if len(shapes.get(name, ())) == ndim}
        counts = {shape[0] for shape in shapes.values()}
        sizes = {shape[-2:] for shape in shapes.values()}
        if right != set(_DATASETS) or len(counts) != 1 or len(sizes) != 1 or shapes['images'][1] != 3:
            raise UserError(
                f'{path}: expected the arrays images (N, 3, W, H), depths and labels (N, W, H) of {OFFICIAL_NAME}, but '
                f'found {shapes or "none of them"}. Give the labelled file of NYU Depth v2, not another one'
            )
        self.numbers = list(range(1, counts.pop() + 1))
        width, height = sizes.pop()
        self.size = height, width

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Source.read`."""
        if self._file is None:  # opened in the process that reads
            import h5py

            self._file = h5py.File(self.path, 'r')
        index = number - 1
        image, depth, labels = (self._file[name][index] for name in _DATASETS)
        classes = np.array([0, *official_tables()['classes_40']], np.uint8)
        if labels.max() >= len(classes):
            raise UserError(f'{self.path}: expected labels 0 to 894, but image {number} has {labels.max()}')
        return image.transpose(2, 1, 0), np.asarray(depth.T, np.float32), classes[labels.T]

    def describe(self) -> dict[str, Any]:
        """Name and size of the file."""
        return dict(kind='official file', name=self.path.name, bytes=self.path.stat().st_size)

    def __getstate__(self) -> dict[str, Any]:
        # An open file does not go to another process.
        return {**self.__dict__, '_file': None}


class PlainFolder(Source):
    """A folder with ``images/``, ``depth/`` and ``labels40/``, each with one file ``NNNN`` per image.

    Images are JPEG or PNG. Depth is PNG of 8 bits (25.5 per metre) or 16 bits (millimetres), or ``.npy`` in metres.
    ``labels40`` are PNG: 0..38 for the classes 1..39; 39 stands for "otherprop" and for pixels without a label, which
    cannot be told apart, so both become unlabelled.

    Args:
        path: The folder.

    Raises:
        UserError: If a folder is missing or empty, or the files do not match.
    """

    FOLDERS = ('images', 'depth', 'labels40')

    def __init__(self, path: Path) -> None:
        self.path = path
        listed = [self._list(path / name) for name in self.FOLDERS]
        missing = sorted(set().union(*listed) - set(listed[0]).intersection(*listed))
        if missing:
            name = next(name for name, found in zip(self.FOLDERS, listed) if missing[0] not in found)
            raise UserError(
                f'{path}: {len(missing)} images lack one of their three files: {missing[0]:04d} has none in {name}. '
                'Copy the missing files, or remove the others of these numbers'
            )
        self._files = {number: tuple(found[number] for found in listed) for number in sorted(listed[0])}
        self.numbers = list(self._files)
        self.size = read_rgb(self._files[self.numbers[0]][0]).shape[:2]

    @staticmethod
    def _list(folder: Path) -> dict[int, Path]:
        if not folder.is_dir():
            expected = ', '.join(PlainFolder.FOLDERS)
            raise UserError(
                f'{folder.parent}: expected the folders {expected}, but there is no {folder.name}. Give '
                f'{OFFICIAL_NAME}, or a folder that holds them'
            )
        found = {int(file.stem): file for file in folder.iterdir() if file.stem.isdigit()}
        total = len(official_tables()['test_ids']) + 795
        if not found or min(found) < 1 or max(found) > total:
            raise UserError(f'{folder}: expected files 0001 to {total}, but found {sorted(found)[-1:] or "none"}')
        return found

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Source.read`."""
        image, depth, labels = self._files[number]
        labels40 = read_indices(labels)
        arrays = read_rgb(image)[..., ::-1], _read_depth(depth), np.where(labels40 >= OTHER, 0, labels40 + 1)
        for file, array in zip(self._files[number], arrays):
            if array.shape[:2] != self.size:
                raise UserError(
                    f'{file}: expected {self.size[0]} x {self.size[1]} pixels like the first image, but found '
                    f'{array.shape[0]} x {array.shape[1]}'
                )
        return arrays[0], arrays[1], arrays[2].astype(np.uint8)

    def describe(self) -> dict[str, Any]:
        """That it is a folder, and what its labels cannot tell."""
        return dict(kind='plain folder', classes=39, note='"otherprop" is not told apart from unlabelled pixels')


def open_source(path: str | os.PathLike) -> Source:
    """The source at ``path``: a folder is a plain one, a file the official one.

    Raises:
        UserError: If there is nothing, or it is neither.
    """
    path = given_path(path, 'the source')
    if not path.exists():
        raise UserError(f'there is no {path}. Give {OFFICIAL_NAME} or a folder with images, depth and labels40')
    if path.is_dir() and (path / OFFICIAL_NAME).is_file():
        path = path / OFFICIAL_NAME
    return PlainFolder(path) if path.is_dir() else OfficialFile(path)


def _read_depth(path: Path) -> np.ndarray:
    if path.suffix == '.npy':
        return np.asarray(read_npy(path), np.float32)
    try:
        return (read_png16(path) / np.float32(_16_BIT)).astype(np.float32)
    except UnreadableFileError as error:
        if error.kind != WRONG_FORMAT:
            raise
    return (read_indices(path) / np.float32(_8_BIT)).astype(np.float32)
