"""MTI-Net: tasks that exchange features at every scale (Vandenhende, Georgoulis and Van Gool, ECCV 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import ModuleDict, ModuleList
from torch import Tensor

from mtl_plugins.errors import UserError
from mtl_plugins.models.maps import chosen_maps, resized
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.argument_types import Count

from .base import PerTaskDecoder, TaskFeatures
from .mti_net_blocks import Distillation, FeaturePropagation, PredictionLayer, residual_blocks


@MODELS.register_module()
class MTINetDecoder(PerTaskDecoder):
    """The decoder of MTI-Net (arXiv 2001.06902), written from the paper.

    From the coarsest map to the finest, each task makes initial features and an initial prediction out of the
    backbone's map and of what :class:`~mtl_plugins.models.decoders.mti_net_blocks.FeaturePropagation` hands up from the
    scale below. At every scale the tasks then exchange messages
    (:class:`~mtl_plugins.models.decoders.mti_net_blocks.Distillation`). A task's output is its distilled features of
    all scales side by side, at the resolution of the finest; the paper's head on them, that of HRNet, is a matter of
    ``heads.<task>.predictor``: see ``configs/_base_/models/mti-net_hrnet18.py``.

    The initial predictions are the auxiliary ones ``scale0`` (finest) to ``scale3``; the paper weighs their losses like
    those of the final predictions, which is the default.

    Maps may have any sizes, also one and the same, as those of a ViT have. Without ``channels`` the widths are those of
    the maps, as in the paper with HRNet-18 (18, 36, 72, 144); choose smaller ones for wide backbones, since the widest
    part of the decoder grows with the square of tasks times channels.

    Args:
        in_channels: Channels of the backbone's maps. Filled in by the segmentor.
        tasks: Task -> channels of its prediction. Filled in by the segmentor.
        channels: Channels of a task's features: one number for all scales, one per scale, or None for those of the
            maps.
        in_index: Maps to use, from the finest scale to the coarsest; None for all in the backbone's order.
        depth: Residual blocks before each initial prediction, and in the bottleneck of the propagation.
        reduction: How much narrower than all tasks' features together that bottleneck is.
        se_reduction: Reduction of the squeeze-and-excitation blocks.
        norm_cfg: Config of the normalisation layers.
        aux_weight: See :class:`~mtl_plugins.models.PerTaskDecoder`.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If an argument does not suit the others.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        tasks: Mapping[str, int],
        channels: int | Sequence[int] | None = None,
        in_index: Sequence[int] | None = None,
        depth: Count = 2,
        reduction: Count = 4,
        se_reduction: Count = 16,
        norm_cfg: dict[str, Any] | None = None,
        aux_weight: float | Mapping[str, float] = 1.0,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
                dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1),
            ]
        super().__init__(in_channels, tasks, aux_weight, init_cfg)
        norm_cfg = dict(type='BN') if norm_cfg is None else dict(norm_cfg)
        self.in_index = chosen_maps(self, in_index, len(in_channels))
        received = [in_channels[i] for i in self.in_index]
        self.channels = _resolve_channels(channels, received)
        self.out_channels = sum(self.channels)

        handed_up = (*self.channels[1:], 0)
        self.initial = ModuleList(
            ModuleDict({task: residual_blocks(own + extra, width, depth, norm_cfg) for task in self.tasks})
            for own, extra, width in zip(received, handed_up, self.channels)
        )
        self.prediction = ModuleList(
            ModuleDict({task: PredictionLayer(width, out) for task, out in self.task_channels.items()})
            for width in self.channels
        )
        self.propagation = ModuleList(
            FeaturePropagation(self.tasks, width, depth, reduction, se_reduction, norm_cfg)
            for width in self.channels[1:]
        )
        self.distillation = ModuleList(Distillation(self.tasks, width) for width in self.channels)

    def forward(self, maps: Sequence[Tensor]) -> TaskFeatures:
        """Features ``(N, sum of channels, H, W)`` of every task at the size of the finest map, initial predictions."""
        pyramid = [maps[i] for i in self.in_index]
        refined: list[dict[str, Tensor]] = []
        auxiliary: dict[str, dict[str, Tensor]] = {}
        handed_up: dict[str, Tensor] = {}
        for scale in reversed(range(len(pyramid))):
            features = self._initial_features(scale, pyramid[scale], handed_up)
            auxiliary[f'scale{scale}'] = self._initial_predictions(scale, features)
            refined.insert(0, self.distillation[scale](features))
            if scale > 0:
                handed_up = self.propagation[scale - 1](features)
        size, joined = pyramid[0].shape[-2:], {}
        for task in self.tasks:
            with self.only_for(task):
                joined[task] = torch.cat([resized(features[task], size) for features in refined], dim=1)
        return TaskFeatures(joined, dict(sorted(auxiliary.items())))

    def _initial_features(self, scale: int, image_map: Tensor, handed_up: Mapping[str, Tensor]) -> dict[str, Tensor]:
        features = {}
        for task, blocks in self.initial[scale].items():
            inputs = [image_map]
            if handed_up:
                inputs.append(resized(handed_up[task], image_map.shape[-2:]))
            features[task] = blocks(torch.cat(inputs, dim=1))
        return features

    def _initial_predictions(self, scale: int, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        predictions = {}
        for task, layer in self.prediction[scale].items():
            with self.only_for(task):
                predictions[task] = layer(features[task])
        return predictions


def _resolve_channels(channels: int | Sequence[int] | None, received: Sequence[int]) -> tuple[int, ...]:
    if channels is None:
        return tuple(received)
    widths = (channels,) * len(received) if isinstance(channels, int) else tuple(channels)
    if len(widths) != len(received) or min(widths) < 1:
        raise UserError(
            f'MTINetDecoder: channels must be one positive number, or one for each of the {len(received)} scales, '
            f'but got {channels!r}'
        )
    return widths
