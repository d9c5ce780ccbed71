"""Heads: what turns features into the prediction, the loss and the result of one task."""

from .decoding import decode_logits, decode_views
from .linear_head import LinearHead
from .predictors import build_predictor
from .task_head import TaskHead, TaskLoss, output_channels

__all__ = [
    'LinearHead', 'TaskHead', 'TaskLoss', 'build_predictor', 'decode_logits', 'decode_views', 'output_channels',
]  # fmt: skip
