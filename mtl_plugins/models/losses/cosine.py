"""Cosine distance between normals."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mtl_plugins.registry import MODELS

from .base import MaskedLoss
from .unit_vectors import unit_vectors


@MODELS.register_module()
class NormalsCosineLoss(MaskedLoss):
    """``1 - cosine`` between predicted and true normals, mean over the labelled pixels.

    Both are normalised, so that only directions count.

    Args:
        axis: ``'channel'``, the angle between the two normals of a pixel. ``'width'`` is there for parity with the
            released STGU program alone, which by a slip takes the cosine along the image rows: each row of each
            component is one vector of as many entries as the image has columns. There, pixels without label count as
            0 in both vectors, and a row counts by the number of its labelled pixels.

    Raises:
        ValueError: If ``axis`` is neither.
    """

    def __init__(self, axis: Literal['channel', 'width'] = 'channel') -> None:
        super().__init__()
        self.axis = axis

    def elements(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Distance per pixel, in 0..2."""
        if self.axis == 'channel':
            return 1 - _cosine(pred, target, dim=1)
        rows = 1 - _cosine(torch.where(valid[:, None], pred, 0), target, dim=3).mean(dim=1)
        return rows[:, :, None].expand_as(valid)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f'axis={self.axis!r}'


def _cosine(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Cosine along an axis; vectors of length 0 have the cosine 0, with a bounded gradient."""
    return (unit_vectors(a, dim) * unit_vectors(b, dim)).sum(dim)
