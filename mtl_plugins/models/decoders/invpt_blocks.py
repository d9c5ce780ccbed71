"""The transformer block of InvPT: attention over all positions of all tasks, with messages between scales."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from mtl_plugins.errors import UserError


class Scores(NamedTuple):
    """Attention before the softmax, for the next scale.

    Attributes:
        values: ``(N, heads, T * h * w, T * keys)``, queries in the order task, row, column.
        size: Rows ``h`` and columns ``w`` of a task's queries.
    """

    values: Tensor
    size: tuple[int, int]


class CrossScaleAttention(BaseModule):
    """Self-attention among the tokens of all tasks at one scale.

    Queries come from a depthwise 3x3 convolution of stride 2, keys and values from means over squares. The side of the
    squares doubles with the scale, so that every scale has the same keys, and the scores of one scale can be added to
    those of the next after a bilinear enlargement along their queries: ``a * own + b * message`` with a learned ``a``
    and ``b`` per attention head.

    Keys have no bias: it would add the same number to all scores of a query, which the softmax ignores.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        pool: Side of the squares that keys and values are means of.
        message: Whether there is an earlier scale to listen to.
    """

    def __init__(self, dim: int, num_heads: int, pool: int, message: bool) -> None:
        super().__init__()
        if dim % num_heads:
            raise UserError(f'InvPTDecoder: dims must be multiples of num_heads={num_heads}, but got {dim}')
        self.num_heads = num_heads
        self.pool = pool
        self.local = nn.Conv2d(dim, dim, kernel_size=3, stride=2, padding=1, groups=dim, bias=False)
        self.local_norm = nn.BatchNorm2d(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.mix = nn.Parameter(torch.full((2, num_heads, 1, 1), 0.5)) if message else None

    def forward(self, x: Tensor, message: Scores | None) -> tuple[Tensor, Scores]:
        """Attend.

        Args:
            x: Tokens as maps ``(N, T, C, h, w)``.
            message: Scores of the scale before.

        Returns:
            What the tokens learn, ``(N, T, C, h, w)``, and the scores.
        """
        batch, tasks, dim, *size = x.shape
        maps = x.flatten(0, 1)
        local = self.local_norm(self.local(maps))
        pooled = F.avg_pool2d(maps, self.pool, stride=self.pool, ceil_mode=True, count_include_pad=False)
        query = self._split(self.query(_tokens(local, tasks)))
        key, value = (self._split(layer(_tokens(pooled, tasks))) for layer in (self.key, self.value))
        scores = Scores(query @ key.transpose(-2, -1) / math.sqrt(key.shape[-1]), tuple(local.shape[-2:]))
        if self.mix is not None:
            own, other = self.mix
            scores = scores._replace(values=own * scores.values + other * _enlarged(message, tasks, scores.size))
        mixed = (scores.values.softmax(dim=-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
        # Linear before the enlargement: the same result at a quarter of the cost.
        mixed = self.out(mixed).unflatten(1, (tasks, *scores.size)).flatten(0, 1).permute(0, 3, 1, 2)
        mixed = F.interpolate(mixed, size=tuple(size), mode='bilinear', align_corners=False)
        return mixed.reshape(batch, tasks, dim, *size), scores

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class InvPTBlock(BaseModule):
    """Attention among all tasks and a two-layer network per token, each on normalised tokens and added to them.

    Args:
        dim: Channels of a token.
        num_heads: Attention heads.
        pool: See :class:`CrossScaleAttention`.
        message: See :class:`CrossScaleAttention`.
        mlp_ratio: Hidden channels of the two-layer network, as a multiple of ``dim``.
        drop_path_rate: Probability that a sample skips a branch in training.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        pool: int,
        message: bool,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = CrossScaleAttention(dim, num_heads, pool, message)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: Tensor, message: Scores | None) -> tuple[Tensor, Scores]:
        """Maps ``(N, T, C, h, w)`` and the scores of the scale before to the same of this scale."""
        learned, scores = self.attention(over_channels(self.attention_norm, x), message)
        x = x + self.drop_path(learned)
        return x + self.drop_path(over_channels(lambda tokens: self.mlp(self.mlp_norm(tokens)), x)), scores


def over_channels(layer, x: Tensor) -> Tensor:
    """Apply a layer that works on the last axis to the channels of maps ``(N, T, C, h, w)``."""
    return layer(x.permute(0, 1, 3, 4, 2)).permute(0, 1, 4, 2, 3)


def _tokens(maps: Tensor, tasks: int) -> Tensor:
    """Maps ``(N * T, C, h, w)`` as one sequence ``(N, T * h * w, C)`` per sample."""
    return maps.flatten(2).transpose(1, 2).unflatten(0, (-1, tasks)).flatten(1, 2)


def _enlarged(message: Scores, tasks: int, size: tuple[int, int]) -> Tensor:
    """Scores of another scale, interpolated to queries of ``size``."""
    batch, heads, _, keys = message.values.shape
    maps = message.values.unflatten(2, (tasks, *message.size)).flatten(0, 2).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=size, mode='bilinear', align_corners=False)
    return maps.permute(0, 2, 3, 1).reshape(batch, heads, -1, keys)
