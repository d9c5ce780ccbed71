"""Whether a target can belong to an image of another size."""

import os
from collections.abc import Iterable

from mtl_plugins.errors import UserError

from .pictures import orientation_of
from .source import PictureError, UnreadableFileError, read_bytes

Size = tuple[int, int]
_MOST = 0.03
"""Largest relative difference of two aspects that rounding to whole pixels may explain."""
_NEAR = 2
"""Pixels; who scales an image changes it by more."""
_FARTHEST = 16
"""Largest factor between two sizes; of a few pixels, such as 1 x 1, the proportions tell nothing."""


def check_aspect(
    target: Size, image: Size, owner: str, files: str | os.PathLike | Iterable[str] = (), image_path: str = ''
) -> None:
    """Refuse a target that had to be stretched to get the size of its image.

    A target may be up to 16 times smaller or larger than its image in the same proportions, up to the rounding to whole
    pixels.

    Args:
        target: (height, width) of the target as stored.
        image: (height, width) of the image as it was read.
        owner: What the target is, for the message: ``"the target of task 'depth'"``.
        files: The files of the target.
        image_path: The file of the image.

    Raises:
        UserError: If the aspects differ; the message names both files and sizes.
    """
    if same_aspect(target, image):
        return
    names = ' and '.join([files] if isinstance(files, str) else map(os.fspath, _listed(files)))
    raise UserError(
        f'{owner}{f" ({names})" if names else ""} is {_text(target)} (height x width), but its image'
        f'{f" {image_path}" if image_path else ""} is {_text(image)}: expected the same size, or the same proportions '
        f'(up to {_FARTHEST} times smaller or larger) '
        f'{_advice(target, image, image_path)}'
    )


def same_aspect(first: Size, second: Size) -> bool:
    """Whether one size is the other times a factor, with each side rounded up or down to a whole number."""
    if tuple(first) == tuple(second):
        return True
    small, large = sorted((tuple(first), tuple(second)))
    if _off_by_one(first, second) or min(small) < 1 or abs(small[0] * large[1] / (small[1] * large[0]) - 1) > _MOST:
        return False
    if large[0] > _FARTHEST * small[0]:
        return False
    # The factors that give each side of the smaller size, less than one pixel off.
    low = max((side - 1) / whole for side, whole in zip(small, large))
    high = min((side + 1) / whole for side, whole in zip(small, large))
    return low < high


def _off_by_one(first: Size, second: Size) -> bool:
    """Whether sizes are too near for a scale: by a pixel or two, or by a little more where a side is the same."""
    steps = [abs(one - other) for one, other in zip(first, second)]
    return 0 < max(steps) <= (max(_NEAR, _MOST * max(first)) if min(steps) == 0 else _NEAR)


def _listed(files: str | os.PathLike | Iterable[str]) -> Iterable[str | os.PathLike]:
    return (files,) if isinstance(files, os.PathLike) else files


def _text(size: Size) -> str:
    return f'{size[0]} x {size[1]}'


def _advice(target: Size, image: Size, image_path: str) -> str:
    if _off_by_one(target, image):
        return (
            'at another scale. Rows or columns were cut off or added: cut the image alike, or pad the target with what '
            'its task leaves out'
        )
    if not same_aspect(target[::-1], image):
        return 'at another scale. Take the target that belongs to this image, or resize it yourself'
    orientation = _orientation(image_path)
    if orientation != 1:
        return (
            f'at another scale. The sizes are swapped, because the image was turned upright as its EXIF orientation '
            f'{orientation} says, and the target was not: turn the target too, or remove the EXIF entry of the image'
        )
    return (
        'at another scale. The sizes are swapped: the target is transposed, or the image lost the EXIF orientation '
        'that it had when it was labelled; turn the one or the other'
    )


def _orientation(path: str) -> int:
    try:
        return orientation_of(read_bytes(path, 'an image')) if path else 1
    except (UnreadableFileError, PictureError):
        return 1
