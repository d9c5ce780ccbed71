"""L1 between unit normals."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from mtl_plugins.registry import MODELS

from .base import MaskedLoss
from .unit_vectors import unit_vectors


@MODELS.register_module()
class NormalsL1Loss(MaskedLoss):
    """L1 distance between the normalised prediction and the target, **sum** over x, y, z, mean over labelled pixels.

    As in the released STGU program: three times a plain mean over all elements, which the multi-task survey by
    Vandenhende et al. (2021) takes. Targets are unit vectors already and are not normalised again.

    Args:
        channels: ``'sum'``, or ``'mean'`` for that of the survey.

    Raises:
        ValueError: If ``channels`` is neither.

    Example:
        >>> import torch
        >>> from mtl_plugins.models.losses import NormalsL1Loss
        >>> valid = torch.tensor([[[True, True, False]]])  # the last of three pixels is not labelled
        >>> towards_the_viewer = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 1, 3)
        >>> NormalsL1Loss()(-towards_the_viewer, towards_the_viewer, valid)
        tensor(2.)
    """

    def __init__(self, channels: Literal['sum', 'mean'] = 'sum') -> None:
        super().__init__()
        self.channels = channels

    def elements(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Distance per pixel."""
        difference = (unit_vectors(pred, dim=1) - target).abs()
        return difference.sum(dim=1) if self.channels == 'sum' else difference.mean(dim=1)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f'channels={self.channels!r}'
