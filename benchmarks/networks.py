"""A small convolutional encoder for the benchmarks: cheap forwards, few parameters, unlike a ViT."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mtl_plugins.registry import MODELS


@MODELS.register_module()
class BenchmarkConvEncoder(nn.Module):
    """Stages of two 3x3 convolutions with GroupNorm and ReLU; the first three halve the resolution.

    Args:
        widths: Channels of the stages, multiples of 8.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.out_channels = widths[-1]
        stages = []
        for index, (before, width) in enumerate(zip((3, *widths), widths)):
            stages += [*_block(before, width, 2 if index < 3 else 1), *_block(width, width, 1)]
        self.stages = nn.Sequential(*stages)

    def forward(self, images: Tensor) -> Tensor:
        """Return the map of the last stage."""
        return self.stages(images)


def _block(in_channels: int, width: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
    return [convolution, nn.GroupNorm(8, width), nn.ReLU(inplace=True)]
