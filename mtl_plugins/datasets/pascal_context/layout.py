"""Names of the folders and files of PASCAL-Context for several tasks, as its two archives have them."""

import os
from pathlib import Path

from mtl_plugins.errors import UserFileNotFoundError

from ..files.folders import find_folder, read_lines

NAME = 'pascal_context'
FOLDERS = ('PASCALContext', 'PASCAL_MT')
"""How the two archives call their folder; what is inside is the same."""
COUNTS = {'train': 4998, 'val': 5105}
SPLITS = tuple(COUNTS)
TASKS = ('semseg', 'human_parts', 'sal', 'normals', 'edge')

IMAGES = 'JPEGImages'
SEMSEG = 'semseg/VOC12'
SEMSEG_FALLBACK = 'semseg/pascal-context'
LABEL_MAPS = 'pascal-context/trainval'
HUMAN_PARTS = 'human_parts'
NORMALS = 'normals_distill'
SALIENCY = 'sal_distill'
DATA_FOLDERS = (IMAGES, SEMSEG, SEMSEG_FALLBACK, LABEL_MAPS, HUMAN_PARTS, NORMALS, SALIENCY)


def find_root(data_root: str | os.PathLike) -> Path:
    """The folder ``PASCALContext`` or ``PASCAL_MT``, given itself or its parent.

    Raises:
        FileNotFoundError: If there is none.
    """
    splits = ' or '.join(split_file(split) for split in SPLITS)
    return find_folder(
        data_root, FOLDERS, lambda folder: any((folder / split_file(split)).is_file() for split in SPLITS), splits, NAME
    )


def split_file(split: str) -> str:
    """The list of ids of a split, relative to the root."""
    return f'ImageSets/Context/{split}.txt'


def part_list_file(split: str) -> str:
    """The classes of the objects of each image of a split, relative to the root. It is JSON in spite of its name."""
    return f'ImageSets/Parts/{split}.txt'


def read_ids(root: Path, split: str) -> list[str]:
    """The ids of a split, such as ``2008_000008``.

    Raises:
        FileNotFoundError: If the split has no file.
    """
    path = root / split_file(split)
    if not path.is_file():
        raise UserFileNotFoundError(
            f'{path} is missing, the list of the images of split {split!r}; take it from the archive again '
            f'(python tools/datasets/verify.py {NAME} {root} says what else is wrong)'
        )
    return read_lines(path)


def semseg_names(root: Path) -> frozenset[str]:
    """Names of the files in the preferred folder of semantic labels (one listing instead of a question per file)."""
    try:
        return frozenset(os.listdir(root / SEMSEG))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def files_of(identifier: str, in_voc12: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """The files of an image per task, relative to the root.

    Args:
        identifier: Id of the image.
        in_voc12: See :func:`semseg_names`; what is not among them is expected in the fallback folder.
    """
    png, mat = f'{identifier}.png', f'{identifier}.mat'
    folder = SEMSEG if png in in_voc12 else SEMSEG_FALLBACK
    labels = f'{LABEL_MAPS}/{mat}'
    return {
        'semseg': (f'{folder}/{png}',),
        'human_parts': (f'{HUMAN_PARTS}/{mat}',),
        'sal': (f'{SALIENCY}/{png}',),
        'normals': (f'{NORMALS}/{png}', labels),
        'edge': (labels,),
    }


def image_file(identifier: str) -> str:
    """The image, relative to the root."""
    return f'{IMAGES}/{identifier}.jpg'
