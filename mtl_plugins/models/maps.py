"""Maps ``(N, C, H, W)`` of a backbone: which of them are used, and at what size."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from mtl_plugins.errors import UserError


def chosen_maps(owner: object, indices: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """The setting ``in_index`` of a decoder, None for all maps.

    Raises:
        UserError: If it names none, or one that is not there.
    """
    chosen = tuple(range(count) if indices is None else indices)
    if not chosen or any(not -count <= index < count for index in chosen):
        raise UserError(
            f'{type(owner).__name__}: in_index must name some of the {count} maps of the backbone, but got {chosen}'
        )
    return chosen


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """``(N, C, h, w)`` at another size, bilinearly; as it is where the size is right."""
    size = tuple(size)
    return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size, mode='bilinear', align_corners=False)
