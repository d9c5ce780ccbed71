"""What must hold for a folder of NYUD-v2, for ``tools/datasets/verify.py nyud``."""

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from ..files.axes import OURS
from ..verification.axes import AxesFinding
from ..verification.base import Problem, make_problem
from ..verification.files import check_image, check_stored
from ..verification.listed import ListedCheck
from . import layout
from .decoding import read_target

FOCAL = 519.0
"""Focal length of the camera in pixels; cutting the border has not changed it."""
_MEASURED = 5
_CERTAIN = 0.6


class NYUDv2Check(ListedCheck):
    """The layout, counts, sizes, formats and values of NYUD-v2 in any packaging.

    Args:
        root: The folder or its parent.

    Raises:
        FileNotFoundError: If it is not there.
    """

    NAME = layout.NAME
    COUNTS = layout.COUNTS

    def __init__(self, root: str | Path) -> None:
        super().__init__(layout.find_nyud(root))
        self.packaging: layout.Packaging | None = None
        self.packaging_problem = ''
        try:
            self.packaging = layout.detect_packaging(self.root)
            self.sizes = (tuple(self.provenance['size']),) if self.provenance else self.packaging.sizes
        except layout.UnknownPackagingError as error:
            self.packaging_problem = str(error)

    def split_path(self, split: str) -> str:
        """See the base class."""
        return layout.split_path(split)

    def folders(self) -> Iterable[str]:
        """See the base class."""
        return layout.IMAGE_FOLDER, *layout.FOLDERS.values()

    def table(self, sample: str) -> Mapping[str, Callable[..., list[Problem]]]:
        """The image and the targets whose folders are there."""
        kind = self.packaging
        if kind is None:
            return {}
        classes = {'semseg': len(layout.CLASSES)}
        targets = {
            kind.target_path(task, sample): functools.partial(
                check_stored, task=task, read=functools.partial(read_target, task), num_classes=classes.get(task)
            )
            for task in layout.TASKS
            if (self.root / layout.FOLDERS[task]).is_dir()
        }
        return {kind.image_path(sample): check_image, **targets}

    def structure(self) -> Iterable[Problem]:
        """Packaging, folders, split files and their ids."""
        if self.packaging is None:
            remedy = 'unpack one archive into a folder of its own'
            yield make_problem('unknown packaging', '', self.packaging_problem, remedy)
        yield from super().structure()

    def across(self) -> Iterable[Problem]:
        """Normals that point another way than the loader takes them."""
        yield from self.axes.problems(layout.FOLDERS['normals'])

    def describe(self) -> dict[str, str]:
        """Folder, packaging, samples per split."""
        packaging = f'{self.packaging.name}: {self.packaging.title}' if self.packaging else 'not recognised'
        samples = ', '.join(f'{split} {len(ids)}' for split, ids in self.ids.items())
        return {
            'folder': str(self.root),
            'packaging': packaging,
            'samples': samples or 'no split file',
            'content': self.provenance['note'] if self.provenance else 'real data',
            'normals': self.axes.describe(),
        }

    @functools.cached_property
    def axes(self) -> AxesFinding:
        """Which way the normals of a few samples point, which no publication states."""
        samples = [sample for sample in self.samples if sample not in self.unknown] if self.packaging else []

        def read(sample: str) -> tuple[np.ndarray, np.ndarray]:
            paths = {task: self.root / self.packaging.target_path(task, sample) for task in ('depth', 'normals')}
            return tuple(read_target(task, path) for task, path in paths.items())

        return AxesFinding.of(samples[:_MEASURED], read, FOCAL / layout.SIZE[1], OURS, _CERTAIN)
