"""Names of folders, files, ids and classes of NYUD-v2, and which of the three packagings a folder holds."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtl_plugins.errors import UserError, UserFileNotFoundError
from mtl_plugins.utils.files import given_path

from ..files import find_folder

NAME = 'nyud'
ROOTS = ('NYUDv2', 'NYUD_MT')
TASKS = ('semseg', 'depth', 'normals', 'edge')
IMAGE_FOLDER = 'images'
FOLDERS = {'semseg': 'segmentation', 'depth': 'depth', 'normals': 'normals', 'edge': 'edge'}
SPLIT_FOLDER = 'gt_sets'
COUNTS = {'train': 795, 'val': 654}
SIZE = (425, 560)
FULL_SIZE = (480, 640)
"""Size of the camera's images, from which the border was cut."""
CLASSES = (
    'wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window', 'bookshelf', 'picture', 'counter',
    'blinds', 'desk', 'shelves', 'curtain', 'dresser', 'pillow', 'mirror', 'floor mat', 'clothes', 'ceiling', 'books',
    'refridgerator', 'television', 'paper', 'towel', 'shower curtain', 'box', 'whiteboard', 'person', 'night stand',
    'toilet', 'sink', 'lamp', 'bathtub', 'bag', 'otherstructure', 'otherfurniture', 'otherprop',
)  # fmt: skip
MAT_KEYS = {'semseg': 'segmentation', 'depth': 'depth'}


@dataclass(frozen=True)
class Packaging:
    """One way in which the files of NYUD-v2 are published.

    Args:
        name: Name for configs.
        title: Whose it is and how the archive is called.
        root: Name of the folder in the archive.
        image: Ending of the images.
        targets: Task -> ending of its files.
        sizes: (height, width) that the images may have. Only that of ``'atrc'`` is documented; the other loaders
            resize whatever comes.
    """

    name: str
    title: str
    root: str
    image: str
    targets: Mapping[str, str]
    sizes: tuple[tuple[int, int], ...] = (SIZE, FULL_SIZE)

    def image_path(self, sample: str) -> str:
        """File of an image, relative to the root."""
        return f'{IMAGE_FOLDER}/{sample}{self.image}'

    def target_path(self, task: str, sample: str) -> str:
        """File of a target, relative to the root."""
        return f'{FOLDERS[task]}/{sample}{self.targets[task]}'

    def endings(self) -> dict[str, str]:
        """Folder -> ending of its files."""
        return {IMAGE_FOLDER: self.image, **{FOLDERS[task]: ending for task, ending in self.targets.items()}}


PACKAGINGS = {
    packaging.name: packaging
    for packaging in (
        Packaging(
            'atrc', 'NYUDv2.tar.gz of ATRC, InvPT and the STGU authors', 'NYUDv2', '.png',
            dict(semseg='.png', depth='.npy', normals='.png', edge='.png'), sizes=(SIZE,),
        ),
        Packaging(
            'mtlp', 'NYUD_MT.tgz of the multi-task survey and MTI-Net', 'NYUD_MT', '.jpg',
            dict(semseg='.png', depth='.npy', normals='.npy', edge='.npy'),
        ),
        Packaging(
            'astmt', 'NYUD_MT.tgz of ASTMT', 'NYUD_MT', '.jpg',
            dict(semseg='.mat', depth='.mat', normals='.jpg', edge='.png'),
        ),
    )
}  # fmt: skip
_ENDINGS = ('.png', '.jpg', '.npy', '.mat')


class UnknownPackagingError(UserError):
    """The files of a folder belong to none of the packagings, or to several."""


def find_nyud(data_root: str | os.PathLike) -> Path:
    """The folder of NYUD-v2, given itself or its parent.

    Raises:
        FileNotFoundError: If it is not there, or holds the other dataset that is known as "NYUv2".
    """
    try:
        return find_folder(data_root, ROOTS, _looks_right, f'the folders {SPLIT_FOLDER} and {IMAGE_FOLDER}', NAME)
    except FileNotFoundError as error:
        given = given_path(data_root, 'data_root')
        for candidate in (given, *(given / name for name in ROOTS)):
            if _is_13_classes(candidate):
                raise UserFileNotFoundError(
                    f'{candidate} holds the "NYUv2" with 13 classes of 288 x 384 .npy files (MTAN, LibMTL, Nash-MTL, '
                    'CAGrad, FAMO), which is another dataset: other classes, images and metrics. This loader reads '
                    'NYUD-v2 with 40 classes (NYUDv2.tar.gz or NYUD_MT.tgz, docs/data_preparation.md), whose results '
                    'cannot be compared with those'
                ) from error
        raise


def detect_packaging(root: Path) -> Packaging:
    """Which packaging a folder holds, from the endings of the files in its folders.

    Raises:
        UnknownPackagingError: If none fits, or several do; the message says what was found.
    """
    found = {folder: _endings(root / folder) for folder in (IMAGE_FOLDER, *FOLDERS.values())}
    fitting = [
        packaging
        for packaging in PACKAGINGS.values()
        if all(not found[folder] or ending in found[folder] for folder, ending in packaging.endings().items())
    ]
    if len(fitting) == 1:
        return fitting[0]
    listed = '; '.join(
        f'{folder}: ' + (', '.join(f'{count} {ending}' for ending, count in counts.items()) or 'nothing')
        for folder, counts in found.items()
    )
    known = '; '.join(
        f"'{packaging.name}' ({packaging.title}) has "
        + ', '.join(f'{folder} {ending}' for folder, ending in packaging.endings().items())
        for packaging in PACKAGINGS.values()
    )
    problem = 'fit several packagings' if fitting else 'fit none of the packagings'
    names = ' or '.join(f"'{packaging.name}'" for packaging in fitting) or 'one of them'
    raise UnknownPackagingError(
        f'NYUD-v2 in {root}: the files {problem}. Found {listed}. {known}. Unpack one archive into a folder of its '
        f'own, or say which it is by packaging={names}'
    )


def get_packaging(name: str) -> Packaging:
    """The packaging called ``name``.

    Raises:
        ValueError: If there is none.
    """
    if name not in PACKAGINGS:
        raise UserError(f'packaging must be one of {", ".join(map(repr, PACKAGINGS))} (or None), but got {name!r}')
    return PACKAGINGS[name]


def split_path(split: str) -> str:
    """File that lists the ids of a split, relative to the root."""
    return f'{SPLIT_FOLDER}/{split}.txt'


def _looks_right(folder: Path) -> bool:
    return (folder / SPLIT_FOLDER).is_dir() and (folder / IMAGE_FOLDER).is_dir()


def _is_13_classes(folder: Path) -> bool:
    return any((folder / split / 'image').is_dir() and (folder / split / 'label').is_dir() for split in COUNTS)


def _endings(folder: Path) -> Counter[str]:
    try:
        with os.scandir(folder) as entries:
            found = Counter(os.path.splitext(entry.name)[1].lower() for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return Counter()
    return Counter({ending: found[ending] for ending in _ENDINGS if found[ending]})
