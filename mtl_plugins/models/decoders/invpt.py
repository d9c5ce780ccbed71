"""InvPT: a transformer decoder that lets all tasks attend to each other at growing resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mtl_plugins.errors import UserError
from mtl_plugins.models.maps import resized
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.argument_types import Count

from .base import PerTaskDecoder, TaskFeatures
from .invpt_blocks import InvPTBlock, Scores, over_channels

INTERMEDIATE = 'initial'


@MODELS.register_module()
class InvPTDecoder(PerTaskDecoder):
    """Inverted pyramid multi-task transformer (Ye and Xu, ECCV 2022, arXiv 2203.07997), for any backbone.

    1. Per task, two 3x3 Conv-BN-ReLU on the backbone's last map and a 1x1 convolution to a first prediction, which is
       supervised as well (loss ``'<task>.loss_initial'``). Features and an embedding of the prediction are the task's
       tokens.
    2. Stages of doubling resolution and shrinking width. Each but the first enlarges every task's map and narrows it by
       a 3x3 Conv-BN-ReLU of the task; each adds a map of the backbone and runs one transformer block over the tokens of
       all tasks, whose attention listens to that of the stage before.
    3. Per task, the outputs of all stages at one resolution, summed, and a 3x3 Conv-BN-ReLU. The heads add a 1x1
       convolution.

    The tasks are treated alike and by name: neither their number nor their order matters to a task's own layers, and
    another order of the heads with the same weights gives the same predictions.

    Written from the paper; ``docs/decoders.md`` says where the paper leaves a choice, and compares the cost.

    Args:
        in_channels: Channels of the backbone's maps. Filled in by the segmentor.
        tasks: Task -> channels of its prediction. Filled in by the segmentor.
        dims: Channels of a token at each stage; their number is that of the stages.
        num_heads: Attention heads of every stage.
        hidden_channels: Channels between the two first convolutions of a task, None for those of the last map.
        pred_channels: Channels of a token at stage 0 that embed the first prediction.
        downsample: Factor from the last map's resolution to that of stage 0; None for 2 if it is as large as the first
            map (a plain ViT), else 1 (a pyramid).
        skip_index: For each stage the index of the backbone's map that is added, None for no map. None altogether for
            the maps before the last, deepest first.
        out_channels: Channels of the maps for the heads, None for ``dims[0]``.
        out_scale: Factor from the last stage's resolution to that of the maps for the heads.
        mlp_ratio: Width of the transformer blocks' two-layer networks.
        drop_path_rate: Stochastic depth of the transformer blocks.
        norm_cfg: Normalisation after the 3x3 convolutions, such as ``dict(type='SyncBN')``.
        aux_weight: Factor on the losses of the first predictions.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If the settings do not fit together or the backbone.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        tasks: Mapping[str, int],
        dims: Sequence[int] = (576, 288, 144),
        num_heads: Count = 2,
        hidden_channels: Count | None = None,
        pred_channels: Count = 64,
        downsample: Count | None = None,
        skip_index: Sequence[int | None] | None = None,
        out_channels: Count | None = None,
        out_scale: Count = 2,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.15,
        norm_cfg: dict[str, Any] | None = None,
        aux_weight: float | Mapping[str, float] = 1.0,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(in_channels, tasks, aux_weight, init_cfg)
        if not dims or not 0 < pred_channels < dims[0]:
            raise UserError(
                f'InvPTDecoder: dims must name the channels of at least one stage, the first more than '
                f'pred_channels, but got dims={tuple(dims)}, pred_channels={pred_channels}'
            )
        self.downsample = downsample
        self.out_scale = out_scale
        self.skip_index = _resolve_skips(skip_index, len(dims), len(self.in_channels))
        self.out_channels = dims[0] if out_channels is None else out_channels
        self._norm_cfg = dict(type='BN') if norm_cfg is None else norm_cfg

        last = self.in_channels[-1]
        hidden = last if hidden_channels is None else hidden_channels
        features = dims[0] - pred_channels
        self.preliminary = self._per_task(lambda: nn.Sequential(self._conv(last, hidden), self._conv(hidden, features)))
        self.predict = nn.ModuleDict({task: nn.Conv2d(features, n, 1) for task, n in self.task_channels.items()})
        self.embed = nn.ModuleDict({task: nn.Conv2d(n, pred_channels, 1) for task, n in self.task_channels.items()})
        narrowings = list(pairwise(dims))
        self.narrow = nn.ModuleList([self._per_task(lambda a=a, b=b: self._conv(a, b)) for a, b in narrowings])
        self.skips = nn.ModuleDict(
            {
                str(stage): nn.Conv2d(self.in_channels[index], dims[stage], 3, padding=1)
                for stage, index in enumerate(self.skip_index)
                if index is not None
            }
        )
        self.blocks = nn.ModuleList(
            [
                InvPTBlock(dim, num_heads, 2 ** (stage + 1), stage > 0, mlp_ratio, drop_path_rate)
                for stage, dim in enumerate(dims)
            ]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for dim in dims])
        self.widen = nn.ModuleList([nn.Conv2d(dim, self.out_channels, 1) for dim in dims])
        self.final = self._per_task(lambda: self._conv(self.out_channels, self.out_channels))

    def forward(self, maps: Sequence[Tensor]) -> TaskFeatures:
        """Maps of all tasks for their heads, and their first predictions.

        Args:
            maps: Maps of the backbone ``(N, C_i, H_i, W_i)``.

        Returns:
            Features: per task ``(N, out_channels, h, w)`` with ``h = out_scale * 2 ** (stages - 1) * h0``, where ``h0``
            is the height of the last map divided by ``downsample``, rounded up. Auxiliary: ``initial``.
        """
        base = self._base_size(maps)
        tokens, predictions = self._first_tokens(resized(maps[-1], base))
        size = tuple(self.out_scale * 2 ** (len(self.blocks) - 1) * side for side in base)
        sums: Tensor | float = 0.0
        scores: Scores | None = None
        for stage, block in enumerate(self.blocks):
            if stage:
                tokens = self._reshape_and_up(tokens, self.narrow[stage - 1])
            tokens, scores = block(tokens + self._skip(maps, stage, tokens.shape[-2:]), scores)
            outputs = over_channels(self.norms[stage], tokens).flatten(0, 1)
            sums = sums + resized(self.widen[stage](outputs), size)
        per_task = sums.unflatten(0, (-1, len(self.tasks))).unbind(1)
        return TaskFeatures(self._finish(per_task), {INTERMEDIATE: predictions})

    def init_weights(self) -> None:
        """Draw new weights, unless done already; ``init_cfg`` has the last word."""
        if self.is_init:
            return
        for module in self.modules():
            if isinstance(module, ConvModule):
                module.init_weights()
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layers in (self.predict, self.embed, self.skips):
            for layer in layers.values():
                layer.reset_parameters()
        for layer in (*self.widen, *(block.attention.local for block in self.blocks)):
            layer.reset_parameters()
        super().init_weights()

    def _conv(self, in_channels: int, out_channels: int) -> ConvModule:
        return ConvModule(in_channels, out_channels, 3, padding=1, norm_cfg=self._norm_cfg)

    def _per_task(self, build) -> nn.ModuleDict:
        return nn.ModuleDict({task: build() for task in self.tasks})

    def _base_size(self, maps: Sequence[Tensor]) -> tuple[int, int]:
        factor = self.downsample
        if factor is None:
            factor = 2 if maps[-1].shape[-2:] == maps[0].shape[-2:] else 1
        return tuple(-(-side // factor) for side in maps[-1].shape[-2:])

    def _first_tokens(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Tokens ``(N, T, C, h, w)`` of stage 0 and the first predictions."""
        tokens, predictions = [], {}
        for task in self.tasks:
            features = self.preliminary[task](x)
            predictions[task] = self.predict[task](features)
            tokens.append(torch.cat([features, self.embed[task](predictions[task])], dim=1))
        return torch.stack(tokens, dim=1), predictions

    def _reshape_and_up(self, tokens: Tensor, narrow: nn.ModuleDict) -> Tensor:
        """Every task's map at twice the size with the channels of the next stage."""
        size = tuple(2 * side for side in tokens.shape[-2:])
        maps = zip(self.tasks, tokens.unbind(1))
        return torch.stack([narrow[task](resized(one, size)) for task, one in maps], dim=1)

    def _skip(self, maps: Sequence[Tensor], stage: int, size: tuple[int, int]) -> Tensor | float:
        """The backbone's map for a stage, the same for all tasks; convolved at the smaller of the two sizes."""
        if self.skip_index[stage] is None:
            return 0.0
        skip = maps[self.skip_index[stage]]
        smaller = tuple(min(a, b) for a, b in zip(skip.shape[-2:], size))
        return resized(self.skips[str(stage)](resized(skip, smaller)), size)[:, None]

    def _finish(self, per_task: Sequence[Tensor]) -> dict[str, Tensor]:
        out = {}
        for task, one in zip(self.tasks, per_task):
            with self.only_for(task):
                out[task] = self.final[task](one)
        return out


def _resolve_skips(skips: Sequence[int | None] | None, stages: int, maps: int) -> tuple[int | None, ...]:
    """The map to add at each stage, checked."""
    if skips is None:
        return tuple(max(maps - 2 - stage, 0) for stage in range(stages))
    wrong = [i for i in skips if i is not None and not -maps <= i < maps]
    if len(skips) != stages or wrong:
        raise UserError(
            f'InvPTDecoder: skip_index must name one of the {maps} maps of the backbone, or None, for each of the '
            f'{stages} stages, but got {tuple(skips)}'
        )
    return tuple(skips)
