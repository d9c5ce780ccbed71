"""The decoder without parameters: all maps side by side."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mtl_plugins.models.maps import chosen_maps, resized
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.argument_types import Checked


@MODELS.register_module()
class ConcatDecoder(Checked, BaseModule):
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
        self.in_index = chosen_maps(self, in_index, len(in_channels))
        self.out_channels = sum(in_channels[i] for i in self.in_index)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Concatenate maps ``(N, C_i, H_i, W_i)`` to ``(N, sum C_i, H, W)``."""
        chosen = [maps[i] for i in self.in_index]
        size = max((tuple(m.shape[-2:]) for m in chosen), key=lambda hw: hw[0] * hw[1])
        return torch.cat([resized(m, size) for m in chosen], dim=1)
