"""Parts of the MTI-Net decoder; each works on one scale and on dicts ``{task: map}``."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleDict, Sequential
from torch import Tensor, nn


def residual_blocks(in_channels: int, channels: int, depth: int, norm_cfg: dict[str, Any]) -> Sequential:
    """``depth`` basic residual blocks of mmseg; the first one changes the channels through a 1x1 shortcut."""
    from mmcv.cnn import build_norm_layer
    from mmseg.models.backbones.resnet import BasicBlock  # imports all of mmseg.models

    shortcut = None
    if in_channels != channels:
        conv = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        shortcut = nn.Sequential(conv, build_norm_layer(norm_cfg, channels)[1])
    first = BasicBlock(in_channels, channels, downsample=shortcut, norm_cfg=norm_cfg)
    return Sequential(first, *(BasicBlock(channels, channels, norm_cfg=norm_cfg) for _ in range(depth - 1)))


class PredictionLayer(BaseModule):
    """A 1x1 convolution for the prediction under deep supervision, drawn near zero as in heads of mmseg."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(init_cfg=dict(type='Normal', layer='Conv2d', std=0.01))
        self.conv = nn.Conv2d(channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to ``(N, out_channels, H, W)``."""
        return self.conv(x)


class SqueezeExcitation(BaseModule):
    """A factor in 0..1 for every channel, computed from the channels' means (Hu et al., CVPR 2018), without biases.

    Args:
        channels: Channels of the map.
        reduction: The hidden layer has ``channels // reduction`` units, one at least.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, kernel_size=1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of ``(N, channels, H, W)``."""
        means = x.mean(dim=(-2, -1), keepdim=True)
        return x * self.excite(self.squeeze(means).relu()).sigmoid()


class FeaturePropagation(BaseModule):
    """What a scale hands up to the next finer one.

    The features of all tasks, side by side, decide through a bottleneck of residual blocks and a softmax over the tasks
    how much of each task enters, position by position and channel by channel. What is let through becomes one shared
    map, from which each task takes what it needs by squeeze-and-excitation and adds it to its own features. With one
    task there is nothing to choose from, and no such choice is built.

    Args:
        tasks: Keys of the tasks, in order.
        channels: Channels of each task's features, and of what is handed on.
        depth: Residual blocks in the bottleneck.
        reduction: How much narrower than the tasks' features side by side the bottleneck is.
        se_reduction: Reduction in the squeeze-and-excitation blocks.
        norm_cfg: Config of the normalisation layers.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        channels: int,
        depth: int,
        reduction: int,
        se_reduction: int,
        norm_cfg: dict[str, Any],
    ) -> None:
        super().__init__()
        width = len(tasks) * channels
        hidden = max(1, width // reduction)
        self.choice = None
        if len(tasks) > 1:
            self.choice = Sequential(
                residual_blocks(width, hidden, depth, norm_cfg), nn.Conv2d(hidden, width, kernel_size=1)
            )
        self.shared = residual_blocks(width, channels, 1, norm_cfg)
        self.excitation = ModuleDict({task: SqueezeExcitation(channels, se_reduction) for task in tasks})

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Hand on the features of all tasks ``(N, channels, H, W)``, each enriched by those of the others."""
        joined = torch.cat(list(features.values()), dim=1)
        if self.choice is not None:
            logits = self.choice(joined).unflatten(1, (len(features), -1))
            joined = joined * logits.softmax(dim=1).flatten(1, 2)
        shared = self.shared(joined)
        return {task: own + self.excitation[task](shared) for task, own in features.items()}


class Distillation(BaseModule):
    """Multi-modal distillation with spatial attention at one scale (PAD-Net, Xu et al., CVPR 2018).

    Every task gets a message from every other one: a 3x3 convolution of the other's features, times a gate in 0..1 from
    a second 3x3 convolution of them. All convolutions of a sending task are one.

    Args:
        tasks: Keys of the tasks, in order.
        channels: Channels of each task's features.
    """

    def __init__(self, tasks: Sequence[str], channels: int) -> None:
        super().__init__()
        others = len(tasks) - 1
        self.messages = ModuleDict(
            {task: nn.Conv2d(channels, 2 * others * channels, 3, padding=1, bias=False) for task in tasks if others}
        )

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The features ``(N, channels, H, W)`` of every task plus the messages of the others."""
        received = dict(features)
        for sender, convolution in self.messages.items():
            receivers = [task for task in features if task != sender]
            values, gates = convolution(features[sender]).chunk(2, dim=1)
            parts = zip(receivers, (values * gates.sigmoid()).chunk(len(receivers), dim=1))
            for receiver, message in parts:
                received[receiver] = received[receiver] + message
        return received
