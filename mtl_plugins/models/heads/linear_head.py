"""The predictor of the released STGU program: one 1x1 convolution."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.registry import MODELS


@MODELS.register_module()
class LinearHead(BaseModule):
    """One 1x1 convolution with bias, in torch's default initialisation.

    Args:
        in_channels: Channels of the features.
        out_channels: Channels of the prediction.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(self, in_channels: int, out_channels: int, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``."""
        return self.conv(features)

    def init_weights(self) -> None:
        """Draw new weights, unless done already; ``init_cfg`` has the last word."""
        if not self.is_init:
            self.conv.reset_parameters()
            super().init_weights()
