"""Where in the padded network input an image lies, and which size its predictions must have."""

from collections.abc import Sequence
from typing import NamedTuple

from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor

from mtl_plugins.errors import UserError

from .targets import sample_name


class Region(NamedTuple):
    """The content of a padded image, in pixels of the network input."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def cut(self, tensor: Tensor) -> Tensor:
        """The region of a tensor ``(..., H, W)``."""
        return tensor[..., self.top : self.top + self.height, self.left : self.left + self.width]


def content_region(sample: BaseDataElement, input_size: tuple[int, int]) -> Region:
    """The content of a sample, from ``img_shape`` and ``pad_offset`` in its meta information.

    Without ``img_shape`` the whole input counts as content.

    Raises:
        ValueError: If the content would reach beyond the input.
    """
    height, width = sample.metainfo.get('img_shape', input_size)[:2]
    top, left = sample.metainfo.get('pad_offset', (0, 0))
    if min(top, left) < 0 or top + height > input_size[0] or left + width > input_size[1]:
        raise UserError(
            f'img_shape {(height, width)} at pad_offset {(top, left)} does not fit into the network input of '
            f'{tuple(input_size)}; a transform changed the image without updating them'
        )
    return Region(int(top), int(left), int(height), int(width))


def output_size(
    sample: BaseDataElement, index: int, tasks: Sequence[str], region: Region, input_size: tuple[int, int]
) -> tuple[int, int]:
    """Size that the predictions of a sample must have.

    With targets: theirs, which may be on the grid of the content or of the original image. (Targets that were padded
    together with the image are cut by :func:`cut_padded_targets`.) Without targets: the original image's.

    Raises:
        ValueError: If a target fits neither.
    """
    original = tuple(sample.metainfo.get('ori_shape', region.size)[:2])
    padded = (input_size, tuple(sample.metainfo.get('pad_shape', input_size)[:2]))
    for task in tasks:
        if f'gt_{task}' not in sample:
            continue
        size = tuple(sample.get(f'gt_{task}').data.shape[-2:])
        if size == region.size or size in padded:
            return region.size
        if size != original:
            raise UserError(
                f"gt_{task} of {sample_name(sample, index)} (task '{task}') has size {size}, but the prediction has "
                f'{region.size} without padding and the original image {original}'
            )
    return original


def cut_padded_targets(sample: BaseDataElement, tasks: Sequence[str], region: Region, size: tuple[int, int]) -> None:
    """Remove the padding of targets that were padded with the image, so that they match predictions of ``size``."""
    for task in tasks:
        target = sample.get(f'gt_{task}')
        if target is not None and tuple(target.data.shape[-2:]) != size:
            sample.set_data({f'gt_{task}': PixelData(data=region.cut(target.data))})
