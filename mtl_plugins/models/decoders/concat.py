"""The decoder without parameters: all maps side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mtl_plugins.errors import UserError
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class ConcatDecoder(BaseModule):
    """Concatenates the maps of the backbone along the channels, at the resolution of the largest.

    What the released STGU program does with the four maps of a ViT, which all have the same resolution.

    Args:
        in_channels: Channels of the backbone's maps. The segmentor fills it in from ``backbone.out_channels``.
        in_index: Maps to use, None for all.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If ``in_index`` names a map that is not there.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_index: Sequence[int] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_index = tuple(range(len(in_channels)) if in_index is None else in_index)
        if not self.in_index or any(not -len(in_channels) <= i < len(in_channels) for i in self.in_index):
            raise UserError(
                f'ConcatDecoder: in_index must name some of the {len(in_channels)} maps of the backbone, '
                f'but got {self.in_index}'
            )
        self.out_channels = sum(in_channels[i] for i in self.in_index)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Concatenate maps ``(N, C_i, H_i, W_i)`` to ``(N, sum C_i, H, W)``."""
        chosen = [maps[i] for i in self.in_index]
        size = max((tuple(m.shape[-2:]) for m in chosen), key=lambda hw: hw[0] * hw[1])
        return torch.cat(
            [
                m if tuple(m.shape[-2:]) == size else F.interpolate(m, size, mode='bilinear', align_corners=False)
                for m in chosen
            ],
            dim=1,
        )
