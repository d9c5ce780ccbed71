"""A predictor of one's own for the head of a task."""

from mmengine.model import BaseModule
from torch import nn

from mtl_plugins.registry import MODELS


@MODELS.register_module()
class TwoLayerHead(BaseModule):
    """A 3x3 convolution with GroupNorm and GELU, then a 1x1 convolution.

    Args:
        in_channels: Filled in: channels of the features.
        out_channels: Filled in: channels of the prediction.
        hidden: Channels in between.
    """

    def __init__(self, in_channels, out_channels, hidden=64, init_cfg=None):
        super().__init__(init_cfg)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 3, padding=1),
            nn.GroupNorm(8, hidden),
            nn.GELU(),
            nn.Conv2d(hidden, out_channels, 1),
        )

    def forward(self, features):
        """Map ``(N, in_channels, h, w)`` to ``(N, out_channels, H, W)`` of any size; the task head resizes it."""
        return self.layers(features)
