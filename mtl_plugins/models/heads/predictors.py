"""Builds what computes a task's prediction inside :class:`~mtl_plugins.models.TaskHead`."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from mtl_plugins.errors import UserError
from mtl_plugins.registry import MODELS

from .linear_head import LinearHead


def build_predictor(
    cfg: dict[str, Any] | None, in_channels: int | Sequence[int], out_channels: int, task: str
) -> nn.Module:
    """Build the predictor of a task.

    Args:
        cfg: None for :class:`~mtl_plugins.models.LinearHead`, or a config for the ``MODELS`` registry: a decode head of
            mmseg (only its forward is used: its loss is dropped, so is what it thinks of classes), or any module that
            takes ``in_channels`` and ``out_channels``.
        in_channels: Channels of the features, a sequence if the predictor gets several maps.
        out_channels: Channels of the prediction.
        task: Name of the task, for messages.

    Raises:
        ValueError: If ``cfg`` fixes another number of output channels than the task has.
    """
    if cfg is None:
        if not isinstance(in_channels, int):
            raise UserError(f"head of task '{task}': features='maps' needs a predictor that takes several maps")
        return LinearHead(in_channels, out_channels)
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead  # imports all of mmseg.models

    cfg = dict(cfg)
    kind = MODELS.get(cfg['type']) if isinstance(cfg.get('type'), str) else cfg.get('type')
    is_decode_head = isinstance(kind, type) and issubclass(kind, BaseDecodeHead)
    for name in ('num_classes', 'out_channels') if is_decode_head else ('out_channels',):
        if cfg.setdefault(name, out_channels) != out_channels:
            raise UserError(
                f"head of task '{task}': predictor.{name} must be {out_channels}, the channels of the task, "
                f'but got {cfg[name]}; leave it out'
            )
    cfg.setdefault('in_channels', _channels_for(cfg, in_channels))
    if not is_decode_head:
        return MODELS.build(cfg)
    dropped = cfg.get('loss_decode')
    if isinstance(dropped, dict) and dropped.get('class_weight') is not None:
        raise UserError(
            f"head of task '{task}': predictor.loss_decode.class_weight would have no effect, since only the forward "
            f'of a decode head is used; set loss=dict(..., class_weight=...) in the head of the task'
        )
    # Neither is used here, but without them the head warns about its defaults.
    cfg.setdefault('loss_decode', dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True))
    if out_channels == 1:
        cfg.setdefault('threshold', 0.5)
    predictor = MODELS.build(cfg)
    del predictor.loss_decode
    return predictor


def _channels_for(cfg: dict[str, Any], in_channels: int | Sequence[int]) -> int | list[int]:
    """``in_channels`` in the form that a decode head with this ``in_index`` expects: one number, or one per map."""
    in_index = cfg.get('in_index', -1)
    if isinstance(in_channels, int):
        return in_channels
    return in_channels[in_index] if isinstance(in_index, int) else [in_channels[i] for i in in_index]
