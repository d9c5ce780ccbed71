"""One fine map out of a pyramid: from the coarsest map upwards, each step adds the next finer map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mtl_plugins.errors import UserError
from mtl_plugins.models.maps import chosen_maps, resized
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.argument_types import Checked, Count


@MODELS.register_module()
class PyramidDecoder(Checked, BaseModule):
    """The top-down path of a feature pyramid network (Lin et al., CVPR 2017, arXiv 1612.03144), to its finest map.

    Shared by all tasks; what differs is the head of each. With a convolutional backbone, whose finest map usually has
    half the resolution of the image, ``LinearHead(scale=2)`` behind it predicts every pixel by itself.

    Args:
        in_channels: Channels of the backbone's maps. Filled in by the segmentor.
        channels: Channels of the result.
        in_index: Maps to use, from the finest to the coarsest; None for all in the backbone's order.
        norm_cfg: Config of the normalisation behind each convolution; None for group normalisation with groups of 8
            channels, which does not depend on the batch.
        init_cfg: See :class:`mmengine.model.BaseModule`; by default Kaiming's initialisation.

    Raises:
        ValueError: If ``in_index`` names a map that is not there, or ``channels`` does not suit the groups.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: Count = 64,
        in_index: Sequence[int] | None = None,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1),
            ]
        super().__init__(init_cfg)
        self.in_index = chosen_maps(self, in_index, len(in_channels))
        if norm_cfg is None and channels % 8:
            raise UserError(f'PyramidDecoder: channels must be a multiple of 8, or give norm_cfg, but got {channels}')
        norm_cfg = dict(type='GN', num_groups=channels // 8) if norm_cfg is None else norm_cfg
        self.out_channels = channels
        self.lateral = ModuleList(
            ConvModule(in_channels[i], channels, 1, norm_cfg=norm_cfg, act_cfg=None) for i in self.in_index
        )
        self.merge = ModuleList(ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg) for _ in self.in_index)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """From maps ``(N, C_i, H_i, W_i)`` to ``(N, channels, H_0, W_0)``, the size of the first that is used."""
        result = None
        for index, lateral, merge in reversed(list(zip(self.in_index, self.lateral, self.merge))):
            here = lateral(maps[index])
            if result is not None:
                here = here + resized(result, here.shape[-2:])
            result = merge(here)
        return result
