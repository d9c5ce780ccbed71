"""What is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer


class TrainingStep(Protocol):
    """A model with a way to train it.

    Attributes:
        label: Name in tables.
        model: The model.
        optimizer: Its optimizer.
        step: Trains on a batch once.
    """

    label: str
    model: nn.Module
    optimizer: Optimizer
    step: Callable[[], Any]
