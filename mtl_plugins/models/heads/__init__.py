"""Heads: what turns features into the prediction, the loss and the result of one task."""

from .decoding import decode_logits
from .linear_head import LinearHead
from .predictors import build_predictor
from .task_head import TaskHead, TaskLoss, output_channels

__all__ = ['LinearHead', 'TaskHead', 'TaskLoss', 'build_predictor', 'decode_logits', 'output_channels']
