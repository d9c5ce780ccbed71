"""The predictor of the released STGU program: one 1x1 convolution."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.registry import MODELS
from mtl_plugins.utils.argument_types import Checked, Count


@MODELS.register_module()
class LinearHead(Checked, BaseModule):
    """One 1x1 convolution with bias, in torch's default initialisation.

    Args:
        in_channels: Channels of the features.
        out_channels: Channels of the prediction.
        scale: Pixels that each position of the features predicts, along each axis (sub-pixel convolution: the
            convolution has ``out_channels * scale**2`` channels, which are then laid out in space). 1, the released
            program's head, leaves all of the resolution to the bilinear upsampling that follows.
        smooth_start: All pixels of a position begin with the same weights, so that early predictions show no grid
            (Aitken et al., arXiv 1707.02937).
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If ``scale`` is not positive.

    Example:
        >>> import torch
        >>> from mtl_plugins.models.heads import LinearHead
        >>> LinearHead(in_channels=128, out_channels=12, scale=4)(torch.zeros(1, 128, 8, 8)).shape
        torch.Size([1, 12, 32, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: Count = 1,
        smooth_start: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.conv = nn.Conv2d(in_channels, out_channels * scale**2, kernel_size=1)
        self.shuffle = nn.PixelShuffle(scale) if scale > 1 else nn.Identity()
        self.pixels = scale**2
        self.smooth_start = smooth_start

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, scale * H, scale * W)``."""
        return self.shuffle(self.conv(features))

    def init_weights(self) -> None:
        """Draw new weights, unless done already; ``init_cfg`` has the last word."""
        if not self.is_init:
            self.conv.reset_parameters()
            for parameter in self.conv.parameters() if self.smooth_start else ():
                parameter.data.copy_(parameter.data[:: self.pixels].repeat_interleave(self.pixels, dim=0))
            super().init_weights()
